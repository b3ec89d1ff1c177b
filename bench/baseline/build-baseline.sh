#!/bin/sh
# Builds what the mount benchmarks compare with, into the directory given (default artifacts/bench/baseline):
#   passthrough_ll   libfuse 3's low-level example server, from Debian's own copy of its source
#   load             our load program (load.c)
# The example's source is fetched or copied at build time and never committed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../artifacts/bench/baseline}
mkdir -p "$out"
out=$(cd "$out" && pwd)

gcc -O2 -Wall -Wextra -Werror -pthread "$here/load.c" -o "$out/load"

if [ ! -f "$out/source/passthrough_ll.c" ]; then
    mkdir -p "$out/source"
    examples=/usr/share/doc/libfuse3-dev/examples
    if [ -f "$examples/passthrough_ll.c" ]; then
        cp "$examples/passthrough_ll.c" "$examples/passthrough_helpers.h" "$out/source/"
    elif [ -f "$examples/passthrough_ll.c.gz" ]; then
        gzip -dc "$examples/passthrough_ll.c.gz" > "$out/source/passthrough_ll.c"
        cp "$examples/passthrough_helpers.h" "$out/source/"
    else
        fetched=$(mktemp -d)
        trap 'rm -rf "$fetched"' EXIT
        (cd "$fetched" && apt-get source -qq fuse3)
        cp "$fetched"/fuse3-*/example/passthrough_ll.c "$fetched"/fuse3-*/example/passthrough_helpers.h "$out/source/"
    fi
fi
if ! pkg-config --exists fuse3; then
    echo "build-baseline: libfuse3-dev is missing: the mount rows will have no baseline" >&2
    exit 0
fi
# shellcheck disable=SC2046
gcc -O2 "$out/source/passthrough_ll.c" $(pkg-config --cflags --libs fuse3) -o "$out/passthrough_ll"
