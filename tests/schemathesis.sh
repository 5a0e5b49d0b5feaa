#!/usr/bin/env bash
# Holds every answer against the API's own document: Schemathesis, all checks, as an admin and without a token.
#
#   EYE_EXAMPLES=400 tests/schemathesis.sh    # the full form, over 20,000 requests; 5 examples an operation without it
#
# Needs Python 3 with venv, and a package index to install Schemathesis from: exits 77 and says what is missing. /tail never
# ends and is left out.
set -euo pipefail
cd "$(dirname "$0")/.."
examples=${EYE_EXAMPLES:-5}
profile=${EYE_PROFILE:-release}

missing() { echo "not shown: $*" >&2; exit 77; }
command -v python3 >/dev/null || missing "python3 is not installed"
work=$(mktemp -d)
server=
cleanup() {
    [ -n "$server" ] && kill "$server" 2>/dev/null && wait "$server" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
python3 -m venv "$work/venv" >/dev/null 2>&1 || missing "python3 cannot make a venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'schemathesis==4.32.5' 2>"$work/pip" \
    || missing "Schemathesis cannot be installed: $(tail -n 1 "$work/pip")"

cargo build --quiet --profile "$profile" --package eye-server
folder=${CARGO_TARGET_DIR:-target}/$([ "$profile" = dev ] && echo debug || echo "$profile")
token=eye_a_$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')
EYE_ADMIN_TOKEN=$token "$folder/eye" serve --data "$work/data" --listen 127.0.0.1:0 >"$work/said" 2>"$work/log" &
server=$!
for _ in $(seq 100); do
    url=$(grep -o 'http://127.0.0.1:[0-9]*' "$work/said" "$work/log" 2>/dev/null | head -n 1 | sed 's/.*http/http/') || true
    [ -n "$url" ] && break
    sleep 0.1
done
[ -n "$url" ] || { cat "$work/said" "$work/log"; exit 1; }

# Something to be found.
curl -sf -H "Authorization: Token $token" -d '{"name":"shop"}' "$url/applications" >/dev/null
for name in view click; do
    curl -sf -H "Authorization: Token $token" -H 'Content-Type: application/json' "$url/events?application=shop" >/dev/null -d \
        '{"session_id":"e2085be5-9137-4e4e-80b5-f1ffddc25423","category":"page","name":"'$name'","timestamp":"2021-01-01 00:00:00","data":{"x":1}}'
done

failed=0
run() {
    "$work/venv/bin/st" --config-file tests/schemathesis/schemathesis.toml run "$url/api/schema" \
        --phases examples,coverage,fuzzing --exclude-path /tail --request-timeout 30 --workers 2 --no-color "$@" \
        >"$work/result" 2>&1 || failed=$?
    if [ "$failed" != 0 ]; then cat "$work/result"; exit "$failed"; fi
    grep -E 'Test cases:|generated' "$work/result"
}
echo "as an admin"
run --max-examples "$examples" --header "Authorization: Token $token"
echo "without a token"
run --max-examples "$((examples / 4 + 1))"
kill -0 "$server" 2>/dev/null || { echo "the service is gone"; cat "$work/log"; exit 1; }
if grep -q 'panicked' "$work/log"; then grep -A5 panicked "$work/log"; exit 1; fi
echo "no answer outside the document, and none of 500 and more"
