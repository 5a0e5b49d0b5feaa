#!/usr/bin/env bash
# The proofs on real data: counts, words and phrases as a plain scan finds them, JSON's edges, kill -9 during `eye send`,
# and the index removed.
#
#   tests/real_data.sh [--small] [FOLDER]
#
# FOLDER (default: $EYE_DATA_SETS, then ../shared/data beside the repository) holds the sets as NAME.ndjson or
# NAME.ndjson.zst. --small runs the short form on `small` alone, as CI does. EYE_KILLS sets the kills of the short form
# (3). Built with the release profile; EYE_PROFILE=dev takes what `cargo test --workspace` has built already.
#
# Exit status: 0 shown, 77 not shown because something is missing here (and says what), otherwise a proof failed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
small=
if [ "${1:-}" = --small ]; then small=yes; shift; fi
folder=${1:-${EYE_DATA_SETS:-$root/../shared/data}}

not_shown() { echo "not shown: $*" >&2; exit 77; }
command -v cargo >/dev/null || not_shown "no cargo here"
[ -d "$folder" ] || not_shown "no folder $folder with the data sets"

if [ -n "$small" ]; then
    sets="small.ndjson" proofs=real_data::small_
else
    sets="accesslog.ndjson irc.ndjson waves.ndjson edge_valid.ndjson edge_either.ndjson edge_invalid.ndjson edge_invalid.b64"
    proofs=real_data::full_
fi
plain=$(mktemp -d)
trap 'rm -rf "$plain"' EXIT
for set in $sets; do
    if [ -f "$folder/$set" ]; then
        cp "$folder/$set" "$plain/$set"
    elif [ -f "$folder/$set.zst" ]; then
        command -v zstd >/dev/null || not_shown "no zstd here to decompress $folder/$set.zst"
        zstd --decompress --quiet --long=27 "$folder/$set.zst" -o "$plain/$set"
    else
        not_shown "no $set in $folder"
    fi
done
cd "$root"
# The whole workspace is selected, so that dependencies keep the features that `cargo test --workspace` gives them.
EYE_DATA_SETS=$plain cargo test --workspace --profile "${EYE_PROFILE:-release}" --test it "$proofs" -- --ignored --nocapture --test-threads 1
