#!/usr/bin/env bash
# Drives the client for web pages (/eye.js) against a running service, in Node.js.
#
#   tests/eye_js.sh
#
# Needs node 18 or newer and curl: exits 77 and says what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${EYE_PROFILE:-release}

missing() { echo "not shown: $*" >&2; exit 77; }
for tool in node curl; do
    command -v "$tool" >/dev/null || missing "$tool is not installed"
done
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 18 ] || missing "node is older than 18"

cargo build --quiet --profile "$profile" --package eye-server
folder=${CARGO_TARGET_DIR:-target}/$([ "$profile" = dev ] && echo debug || echo "$profile")
eye=$(cd "$folder" && pwd)/eye
work=$(mktemp -d)
cleanup() {
    [ -n "${server:-}" ] && kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
"$eye" serve --data "$work/data" --listen 127.0.0.1:0 >"$work/said" 2>"$work/complaints" &
server=$!
for _ in $(seq 100); do
    url=$(sed -n 's/^listening on //p' "$work/said")
    [ -n "$url" ] && break
    sleep 0.1
done
[ -n "$url" ] || { cat "$work/complaints" >&2; exit 1; }
token() { "$eye" "$@" --json --data "$work/data" | sed 's/.*"token":"\([^"]*\)".*/\1/'; }
"$eye" app create shop --data "$work/data" >/dev/null
write=$(token token create --app shop --scope write)
read=$(token token create --analyst)
curl -sS "$url/eye.js" >"$work/eye.js"
node tests/eye_js.mjs "$work/eye.js" "$url" "$write" "$read" http://127.0.0.1:9
