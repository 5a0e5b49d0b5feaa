#!/usr/bin/env bash
# Moves a database of the old service as docs/migration.md says: tables in a PostgreSQL of one's own, \copy, import, and
# every event compared, field by field, with what the database holds.
#
#   EYE_ROWS=100000 tests/old_service.sh      # 2,000 without it
#
# Needs PostgreSQL's programs and, for root, a user `postgres`: exits 77 and says what is missing. EYE_PROFILE=dev takes
# what `cargo test --workspace` has built already.
set -euo pipefail
cd "$(dirname "$0")/.."
rows=${EYE_ROWS:-2000}
profile=${EYE_PROFILE:-release}

missing() { echo "not shown: $*" >&2; exit 77; }
PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)
for tool in initdb pg_ctl psql; do
    command -v "$tool" >/dev/null || missing "$tool is not installed"
done
as_owner() { "$@"; }
if [ "$(id -u)" = 0 ]; then
    id postgres >/dev/null 2>&1 || missing "PostgreSQL does not run as root, and there is no user postgres"
    as_owner() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
fi

cargo build --quiet --profile "$profile" --package eye-server
folder=${CARGO_TARGET_DIR:-target}/$([ "$profile" = dev ] && echo debug || echo "$profile")
eye=$(cd "$folder" && pwd)/eye

work=$(mktemp -d)
chmod 755 "$work"
mkdir "$work/database" "$work/moved"
[ "$(id -u)" = 0 ] && chown postgres "$work/database"
trap 'as_owner pg_ctl -D "$work/database/pg" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
(
    cd "$work/database"
    as_owner initdb -D pg -A trust -E UTF8 --locale=C -U eye >/dev/null
    as_owner pg_ctl -D pg -w -l log -o "-k $work/database -c listen_addresses= -c fsync=off" start >/dev/null
)
sql() { psql -h "$work/database" -U eye -d postgres -v ON_ERROR_STOP=1 -q "$@"; }

# What is likely to go wrong: quotes, commas, line feeds and backslashes in texts and in JSON as it was written (`json`
# keeps white space, `jsonb` does not), numbers beyond doubles, instants with and without an offset, numbers for ids.
sql -v rows="$rows" <<'SQL'
CREATE TABLE application (id serial PRIMARY KEY, name text, token text, active boolean, created timestamptz DEFAULT now());
CREATE TABLE session (id uuid PRIMARY KEY, application_id int REFERENCES application);
CREATE TABLE event (id bigserial PRIMARY KEY, session_id uuid REFERENCES session, category text, name text, data json,
    timestamp timestamptz, naive timestamp);
INSERT INTO application (name, token, active) SELECT 'Shop, ' || n, md5(n::text) || md5(n::text), n <> 3 FROM generate_series(1, 3) n;
INSERT INTO session SELECT md5('session' || n)::uuid, 1 + n % 3 FROM generate_series(1, 50) n;
INSERT INTO event (session_id, category, name, data, timestamp, naive)
SELECT md5('session' || (1 + n % 50))::uuid, (ARRAY['page interaction', 'a "quoted", one', E'two\nlines', 'Žofie'])[1 + n % 4], 'event ' || n,
    (ARRAY[
        '{"n": ' || n || ', "price": 10.50, "big": 123456789012345678901234567890}',
        E'{\n  "text": "a \\"quote\\", a comma and a \\\\ backslash",\r\n\t"n": ' || n || E'\n}',
        '{"n": ' || n || ', "list": [1, [2, {"a": null}]], "empty": {}, "n": ' || n || '}'
    ])[1 + n % 3]::json,
    '2021-01-01 00:00:00+00'::timestamptz + n * interval '1 second 123456 microseconds',
    '2021-01-01 00:00:00'::timestamp + n * interval '1 second 123456 microseconds'
FROM generate_series(1, :rows) n;
SQL

cd "$work/moved"
sql <<'SQL'
SET timezone = 'America/New_York';
\copy (SELECT token, created, name, id, active FROM application) TO 'applications.csv' WITH (FORMAT csv, HEADER)
\copy session TO 'sessions.csv' WITH (FORMAT csv, HEADER)
\copy (SELECT id, session_id, category, name, data, timestamp FROM event WHERE id % 2 = 0) TO 'even.csv' WITH (FORMAT csv, HEADER)
\copy (SELECT id, session_id, category, name, data, naive AS timestamp FROM event WHERE id % 4 = 1) TO 'naive.csv' WITH (FORMAT csv, HEADER)
SQL
sql -At -c "SELECT row_to_json(e)::text FROM (SELECT id, session_id, category, name, data, timestamp FROM event WHERE id % 4 = 3) e" >lines
# What row_to_json writes holds the line feeds of `json` as they are; a line each needs them gone.
tr '\n\r' '  ' <lines | sed 's/} {"id"/}\n{"id"/g' >rest.ndjson

"$eye" import old-service applications.csv sessions.csv even.csv naive.csv rest.ndjson --data store
"$eye" import old-service applications.csv sessions.csv even.csv naive.csv rest.ndjson --data store --again | tee again
grep -q "events: 0 stored" again

# The same from both, ordered: name, category, data without white space outside of strings, instant.
sql -At -F '|' -c "SELECT name, to_json(category), regexp_replace(data::jsonb::text, '\s', '', 'g'),
    to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM event ORDER BY id" | LC_ALL=C sort >expected
"$eye" search '*' --data store --all >found.ndjson
sql -c 'CREATE TABLE found (line text)' -c "\copy found FROM 'found.ndjson' WITH (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')"
sql -At -F '|' -c "SELECT line::json->>'name', to_json(line::json->>'category'), regexp_replace((line::json->'data')::jsonb::text, '\s', '', 'g'),
    line::json->>'timestamp' FROM found" | LC_ALL=C sort >found
diff expected found || { echo "what was moved is not what was there" >&2; exit 1; }
[ "$(wc -l <found)" = "$rows" ]
"$eye" log verify --data store >/dev/null
echo "$rows events of a PostgreSQL $(psql --version | awk '{print $3}') moved, each as it was; nothing stored twice"
