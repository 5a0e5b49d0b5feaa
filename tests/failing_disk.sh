#!/usr/bin/env bash
# Writes a log onto a disk that begins to fail, over and over, and looks whether everything that was acknowledged is
# there once the disk works again.
#
#   EYE_CYCLES=100 tests/failing_disk.sh    # the full form; 5 without it
#
# The disk is an ext4 file system in a sparse image on a loop device; the image lies in a tmpfs with less room than the
# file system believes it has. When that is used up, writes and syncs fail with EIO while the page cache goes on showing
# what was written. Needs root, loop devices and tmpfs: exits 77 and says what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
cycles=${EYE_CYCLES:-5}
profile=${EYE_PROFILE:-release}

missing() { echo "not shown: $*" >&2; exit 77; }
[ "$(id -u)" = 0 ] || missing "only root may mount a loop device"
for tool in losetup mkfs.ext4 fsck.ext4 mount umount timeout; do
    command -v "$tool" >/dev/null || missing "$tool is not installed"
done

cargo build --quiet --profile "$profile" --package eye-server
folder=${CARGO_TARGET_DIR:-target}/$([ "$profile" = dev ] && echo debug || echo "$profile")
eye=$(cd "$folder" && pwd)/eye

work=$(mktemp -d)
device=
cleanup() {
    mountpoint -q "$work/disk" && umount -l "$work/disk" || true
    [ -n "$device" ] && losetup -d "$device" 2>/dev/null || true
    mountpoint -q "$work/memory" && umount -l "$work/memory" || true
    rm -rf "$work"
}
trap cleanup EXIT
mkdir "$work/disk" "$work/memory"
mount -t tmpfs -o size=96M tmpfs "$work/memory" 2>/dev/null || missing "a tmpfs cannot be mounted here"

# The file system anew, with so many MiB of the memory behind it taken by something else.
fresh() {
    rm -f "$work/memory/image" "$work/memory/ballast"
    truncate -s 1G "$work/memory/image"
    mkfs.ext4 -q -F -E lazy_itable_init=1,nodiscard "$work/memory/image"
    device=$(losetup --find --show "$work/memory/image") || { device=; missing "there are no loop devices here"; }
    # Of a larger write that finds too little room the loop device takes some and says that all is well: a disk that lies,
    # which no sync can tell. A page is taken or refused.
    echo 4 >"/sys/block/${device#/dev/}/queue/max_sectors_kb" 2>/dev/null || missing "the loop device cannot be made to write page by page"
    mount -o nodiscard "$device" "$work/disk" 2>/dev/null || missing "loop devices cannot be mounted here"
    head -c "$1M" /dev/zero >"$work/memory/ballast"
}

acknowledged=0
for ((cycle = 1; cycle <= cycles; cycle++)); do
    fresh $((RANDOM % 30 + 40))
    status=0
    timeout --signal=KILL 300 "$eye" torture --run "$cycle" --writer "$work/disk/log" >"$work/said" 2>"$work/complaint" || status=$?
    case $status in
        0) echo "cycle $cycle: the writer said that all was well on a disk that fails" >&2; exit 1 ;;
        137) echo "cycle $cycle: the writer was still there after five minutes" >&2; exit 1 ;;
    esac
    # The memory behind the disk is there again: what the kernel still holds reaches it or is dropped, as after a crash.
    rm "$work/memory/ballast"
    umount "$work/disk"
    fsck.ext4 -p "$device" >/dev/null 2>&1 || [ $? -le 1 ] || fsck.ext4 -y "$device" >/dev/null 2>&1 || true
    mount -o nodiscard "$device" "$work/disk"
    if ! "$eye" torture --check "$work/disk/log" <"$work/said" >"$work/verdict" 2>&1; then
        echo "cycle $cycle: $(cat "$work/verdict")" >&2
        echo "the writer had ended with $status: $(cat "$work/complaint")" >&2
        exit 1
    fi
    acknowledged=$((acknowledged + $(wc -l <"$work/said")))
    umount "$work/disk"
    losetup -d "$device"
    device=
done
echo "$cycles disks failed, the writer ended each time ($(tail -n 1 "$work/complaint"))"
echo "$acknowledged lines acknowledged, none lost; the last look: $(cat "$work/verdict")"
