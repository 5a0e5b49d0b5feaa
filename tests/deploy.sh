#!/usr/bin/env bash
# Reads the files of docs/deploy and docs/monitoring with the tools that they are for, as far as these are here: the unit
# with systemd, the compose file with docker compose, the alerts with Prometheus. It starts none of them.
#
#   tests/deploy.sh
#
# Exit status: 0 all shown, 77 not all shown because a tool is missing (and says which), otherwise a file is wrong.
set -euo pipefail
cd "$(dirname "$0")/.."
missing=0
not_shown() { echo "not shown: $*" >&2; missing=77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if command -v systemd-analyze >/dev/null; then
    # It wants the program to be where the unit says.
    sed "s|/usr/local/bin/eye|$(command -v true)|" docs/deploy/eye.service >"$work/eye.service"
    systemd-analyze verify "$work/eye.service"
    # 0 is a sandbox without a way out, 10 none at all.
    systemd-analyze security --offline=true --threshold=20 --no-pager "$work/eye.service" | tail -n 1
else
    not_shown "the unit; no systemd-analyze here"
fi

if docker compose version >/dev/null 2>&1; then
    docker compose config --quiet && echo "the compose file is one"
elif command -v docker-compose >/dev/null; then
    docker-compose config --quiet && echo "the compose file is one"
else
    not_shown "the compose file; no docker compose here"
fi

if command -v promtool >/dev/null; then
    promtool check rules docs/monitoring/alerts.yml
else
    not_shown "the alerts; no promtool here"
fi
exit "$missing"
