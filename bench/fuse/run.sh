#!/bin/bash
# Compares Famfs.Fuse with libfuse's passthrough_ll on this machine: same kernel, same memory (/dev/shm), nothing
# cached by the kernel. Runs alternate, so that both see the same weather.
#
#   bench/fuse/run.sh [ROUNDS] [SECONDS]
#
# Needs root, /dev/fuse, gcc, libfuse3-dev with its examples. Prints one line per measurement.
set -eu
rounds=${1:-3} seconds=${2:-2}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d /tmp/famfs-fusebench-XXXXXX)
shm=$(mktemp -d /dev/shm/famfs-fusebench-XXXXXX)
a=$work/famfs b=$work/passthrough
mkdir "$a" "$b"
server= other=
cleanup() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	umount -l "$a" 2>/dev/null || true
	umount -l "$b" 2>/dev/null || true
	[ -z "$other" ] || kill "$other" 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$work" "$shm"
}
trap cleanup EXIT

gcc -O2 -o "$work/fusebench" "$here/fusebench.c" -lpthread
gcc -O2 -o "$work/passthrough_ll" /usr/share/doc/libfuse3-dev/examples/passthrough_ll.c $(pkg-config --cflags --libs fuse3)
dotnet build "$root/tests/Famfs.Fuse.TestServer/Famfs.Fuse.TestServer.csproj" -c Release -m:1 --nologo -v q >/dev/null

truncate -s 256M "$shm/memory"
mkdir "$shm/files"
for i in 0 1; do head -c 67108864 /dev/zero > "$shm/files/f$i"; done
head -c 134217728 /dev/zero | dd of="$shm/memory" bs=1M conv=notrunc status=none

mkfifo "$work/in"
dotnet "$root/tests/Famfs.Fuse.TestServer/bin/Release/net10.0/Famfs.Fuse.TestServer.dll" "$a" "$shm/memory" 2 67108864 2 uncached <"$work/in" &
server=$!
exec 9>"$work/in"
"$work/passthrough_ll" -f -o source="$shm/files",cache=never,timeout=0,allow_other,default_permissions "$b" &
other=$!
until [ -e "$a/f1" ] && [ -e "$b/f1" ]; do read -rt 0.1 <> <(:) || true; done
"$work/fusebench" "$a" stat 2 3 >/dev/null # lets the runtime compile
"$work/fusebench" "$a" read 2 2 >/dev/null
"$work/fusebench" "$a" write 2 2 >/dev/null
"$work/fusebench" "$a" open 2 2 >/dev/null

for what in "stat 4096" "open 4096" "read 4096" "read 1048576" "write 4096" "write 1048576"; do
	set -- $what
	for threads in 1 2; do
		for round in $(seq "$rounds"); do
			for which in "$a" "$b"; do
				printf '%-5s %7s bytes, %s threads, %-11s' "$1" "$2" "$threads" "$(basename "$which")"
				"$work/fusebench" "$which" "$1" "$threads" "$seconds" "$2"
			done
		done
	done
done
