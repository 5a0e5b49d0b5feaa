#!/usr/bin/env bash
# Asks The Eye, PostgreSQL and SQLite the same eight questions of the same events, one after the other, in one run.
#
#   EYE_BENCH_EVENTS=web.ndjson benches/peers/run.sh [OUT.md]
#
# EYE_BENCH_COUNT (1,000,000) of the events are taken. The Eye is asked over HTTP by `cargo bench --bench query`, which also
# draws the questions; compare.py fills the others, asks them through their own clients, and prints the table. Another
# peer is another class in compare.py. Needs Python 3 with venv, a package index and PostgreSQL's programs: exits 77 and says
# what is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

missing() { echo "not shown: $*" >&2; exit 77; }
[ -n "${EYE_BENCH_EVENTS:-}" ] || { echo "EYE_BENCH_EVENTS must name a file of events" >&2; exit 2; }
events=$(realpath "$EYE_BENCH_EVENTS")
count=${EYE_BENCH_COUNT:-1000000}
PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)
for tool in python3 initdb pg_ctl; do
    command -v "$tool" >/dev/null || missing "$tool is not installed"
done
as_owner() { "$@"; }
if [ "$(id -u)" = 0 ]; then
    id postgres >/dev/null 2>&1 || missing "PostgreSQL does not run as root, and there is no user postgres"
    as_owner() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
fi

# On the disk that the benches use: a temporary folder may lie in memory.
work=$(mktemp -d "${EYE_BENCH_DATA:-${CARGO_TARGET_DIR:-target}}/peers-XXXXXX")
work=$(realpath "$work")
socket=$(mktemp -d)
chmod 755 "$work" "$socket"
trap 'as_owner pg_ctl -D "$work/postgres/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$work" "$socket"' EXIT
python3 -m venv "$work/venv" >/dev/null 2>&1 || missing "python3 cannot make a venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check psycopg2-binary 2>"$work/pip" \
    || missing "psycopg2 cannot be installed: $(tail -n 1 "$work/pip")"

EYE_BENCH_EVENTS=$events EYE_BENCH_COUNT=$count EYE_BENCH_QUESTIONS=$work/questions.json \
    cargo bench --quiet --workspace --bench query -- web >"$work/eye" || { cat "$work/eye"; exit 1; }

mkdir "$work/postgres"
[ "$(id -u)" = 0 ] && chown postgres "$work/postgres" "$socket"
(
    cd "$work/postgres"
    as_owner initdb -D data -A trust -E UTF8 --locale=C -U eye >/dev/null
    as_owner pg_ctl -D data -w -l log -o "-k $socket -c listen_addresses= -c shared_buffers=1GB -c work_mem=64MB \
        -c maintenance_work_mem=512MB -c max_wal_size=8GB" start >/dev/null
)
"$work/venv/bin/python" benches/peers/compare.py --events "$events" --count "$count" --questions "$work/questions.json" \
    --postgres "host=$socket user=eye dbname=postgres" --sqlite "$work/events.db" --out "${1:--}"
