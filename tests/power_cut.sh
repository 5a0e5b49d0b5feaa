#!/usr/bin/env bash
# Cuts the power of an ext4 file system while the log is written, over and over, and looks whether everything that was
# acknowledged is there.
#
#   EYE_CYCLES=1000 tests/power_cut.sh      # the full form; 10 without it
#
# The file system lies in an image on a loop device; the cut is ext4's own shutdown call without flushing its journal,
# after which nothing more reaches the image. Needs root, loop devices and python3: exits 77 and says what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
cycles=${EYE_CYCLES:-10}
profile=${EYE_PROFILE:-release}

missing() { echo "not shown: $*" >&2; exit 77; }
[ "$(id -u)" = 0 ] || missing "only root may mount a loop device"
for tool in losetup mkfs.ext4 mount umount python3; do
    command -v "$tool" >/dev/null || missing "$tool is not installed"
done

cargo build --quiet --profile "$profile" --package eye-server
folder=${CARGO_TARGET_DIR:-target}/$([ "$profile" = dev ] && echo debug || echo "$profile")
eye=$(cd "$folder" && pwd)/eye

work=$(mktemp -d)
device=
cleanup() {
    [ -n "${writer:-}" ] && kill -9 "$writer" 2>/dev/null || true
    mountpoint -q "$work/disk" && umount -l "$work/disk" || true
    [ -n "$device" ] && losetup -d "$device" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
mkdir "$work/disk"
fresh() {
    truncate -s 0 "$work/image"
    truncate -s 1G "$work/image"
    mkfs.ext4 -q -F "$work/image"
}
fresh
device=$(losetup --find --show "$work/image") || { device=; missing "there are no loop devices here"; }
mount "$device" "$work/disk" 2>/dev/null || missing "loop devices cannot be mounted here"

cut_power() {
    # EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH.
    python3 - "$work/disk" <<'PYTHON'
import fcntl, os, struct, sys
folder = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(folder, 0x8004587D, struct.pack("I", 2))
PYTHON
}

: >"$work/acknowledged"
lost=0
for ((cycle = 1; cycle <= cycles; cycle++)); do
    # A log that has grown long makes every look at it long.
    if ((cycle % 20 == 1)) && ((cycle > 1)); then
        rm -rf "$work/disk/log"
        sync -f "$work/disk"
        : >"$work/acknowledged"
    fi
    "$eye" torture --run "$cycle" --writer "$work/disk/log" >"$work/said" 2>/dev/null &
    writer=$!
    sleep "0.0$((RANDOM % 90 + 10))"
    ((cycle % 3)) || sleep 0.15
    cut_power || missing "this kernel's ext4 has no shutdown call"
    kill -9 "$writer" 2>/dev/null || true
    wait "$writer" 2>/dev/null || true
    writer=
    # A line that the kill cut short says nothing; what was said before the cut was acknowledged.
    cat "$work/said" >>"$work/acknowledged"
    umount "$work/disk"
    mount "$device" "$work/disk"
    if [ -d "$work/disk/log" ]; then
        "$eye" torture --check "$work/disk/log" <"$work/acknowledged" >"$work/verdict" 2>&1 || lost=$((lost + 1))
    elif [ -s "$work/acknowledged" ]; then
        echo "the log's folder is gone" >"$work/verdict"
        lost=$((lost + 1))
    fi
    if ((lost)); then
        echo "cycle $cycle: $(cat "$work/verdict")" >&2
        exit 1
    fi
    ((cycle % 100)) || echo "$cycle of $cycles power cuts, nothing acknowledged lost so far"
done
echo "$cycles power cuts, nothing acknowledged lost; the last look: $(cat "$work/verdict" 2>/dev/null)"
