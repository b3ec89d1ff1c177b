#!/usr/bin/env bash
# The main job, end to end, on this machine alone: two file-backed devices, one master, two hosts.
# Usage: deploy/demo.sh DIRECTORY-OF-BINARIES. Needs root or user namespaces; leaves nothing behind.
set -euo pipefail
bin=$(realpath "${1:-artifacts/bin}")
self=$(realpath "$0")

fail() { echo "demo: FAILED: $*" >&2; exit 1; }

[ -x "$bin/famfs" ] || fail "$bin/famfs is missing; run \`make publish\`"
[ -c /dev/fuse ] || fail "/dev/fuse is missing: load the fuse module (modprobe fuse)"
[ -r /dev/fuse ] && [ -w /dev/fuse ] || fail "/dev/fuse may not be opened by $(id -un): run as root, or chmod 0666 /dev/fuse"
if [ "$(id -u)" -ne 0 ]; then
    unshare -Urm true 2>/dev/null || fail "this needs root, or user namespaces (unshare -Urm), which are not allowed here"
    exec unshare -Urm "$self" "$bin"
fi

work=$(mktemp -d /tmp/famfs-demo.XXXXXX)
devices=(/dev/shm/famfs-demo.$$.0 /dev/shm/famfs-demo.$$.1)
pids=()
port=$((20000 + RANDOM % 20000))
master=http://127.0.0.1:$port

cleanup() {
    status=$?
    for host in a b; do
        mountpoint -q "$work/$host" 2>/dev/null && { "$bin/famfs" umount "$work/$host" || umount -l "$work/$host"; }
    done
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    if [ $status -ne 0 ]; then
        for log in "$work"/*.log; do [ -f "$log" ] && sed "s|^|$(basename "$log"): |" "$log" >&2; done
    fi
    rm -f "${devices[@]}"
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT

step() { echo; echo "== $*"; }
run() { echo "\$ ${*//$bin\//}"; "$@"; }

# Waits, at most 60 s, until a command succeeds.
await() {
    local what=$1; shift
    for _ in $(seq 600); do "$@" >/dev/null 2>&1 && return 0; sleep 0.1; done
    fail "$what did not happen within 60 s"
}

step "two devices of shared memory (files here; /dev/daxX.Y on real hosts)"
for device in "${devices[@]}"; do run truncate -s 256M "$device"; done

step "format them as one pool"
run "$bin/famfs" mkfs --host-state "$work/state-a" --label demo "${devices[@]}"

step "start the master"
"$bin/famfs-master" --host-state "$work/state-a" --device "${devices[0]}" --device "${devices[1]}" --listen "$master" >"$work/master.log" 2>&1 &
pids+=($!)
await "the master's start" "$bin/famfs" status --master "$master"
echo "master listens on $master"

for host in a b; do
    step "mount it on host $host"
    mkdir "$work/$host"
    "$bin/famfsd" --host-state "$work/state-$host" --device "${devices[0]}" --device "${devices[1]}" --master "$master" "$work/$host" >"$work/host-$host.log" 2>&1 &
    pids+=($!)
    await "the mount on host $host" mountpoint -q "$work/$host"
    await "the registration of host $host" grep -q "registered in the host table" "$work/host-$host.log"
    echo "host $host serves $work/$host"
done

step "directories and files, made from host a"
run "$bin/famfs" mkdir -p "$work/a/models/small"
run "$bin/famfs" creat --size 6M --contiguous "$work/a/models/small/contiguous"
run "$bin/famfs" creat --size 11M --interleave 2 "$work/a/models/interleaved"

step "host b sees each within a second of its creation"
run "$bin/famfs" creat --size 2M --wait none "$work/a/models/fresh"
acknowledged=$(date +%s%N)
await "the new file on host b" test -f "$work/b/models/fresh"
seen=$(( ($(date +%s%N) - acknowledged) / 1000000 ))
echo "seen on host b ${seen} ms after the creation was acknowledged"
[ "$seen" -le 1000 ] || fail "host b took ${seen} ms to see a file, the limit is 1000 ms"
run ls -lR "$work/b/models"

step "write through host a, read the same bytes through host b"
for file in models/small/contiguous models/interleaved; do
    size=$(stat -c %s "$work/a/$file")
    head -c "$size" /dev/urandom >"$work/content"
    dd if="$work/content" of="$work/a/$file" bs=1M conv=notrunc status=none
    want=$(sha256sum <"$work/content"); got=$(sha256sum <"$work/b/$file")
    [ "$want" = "$got" ] || fail "$file: wrote $want, host b reads $got"
    echo "$file: $size bytes, sha256 ${got%% *} on both hosts"
    rm "$work/content"
done
run "$bin/famfs" getmap "$work/b/models/interleaved"

step "the state of the file system"
run "$bin/famfs" status "$work/a"
run "$bin/famfs" df "$work/a"
run "$bin/famfs" hosts "$work/a"
[ "$("$bin/famfs" hosts "$work/a" | grep -c live)" -eq 2 ] || fail "not both hosts are live"

step "unmount"
for host in a b; do
    run "$bin/famfs" umount "$work/$host"
    mountpoint -q "$work/$host" && fail "host $host is still mounted"
done
kill "${pids[0]}"; wait "${pids[0]}" || fail "the master did not stop in order"
echo; echo "demo: everything as it should be"
