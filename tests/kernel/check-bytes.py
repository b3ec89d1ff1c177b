#!/usr/bin/env python3
"""check-bytes.py check|write MAP SEED FILE:START...

Looks at the memory itself, from outside: MAP is a file's map as `famfs getmap` prints it, FILE:START is where each
device is (byte 0 of the device is byte START of FILE; its superblock says which one it is, docs/format.md; in famfs-2 the order). Checks, or writes, the content that the tool
mtest gives a file for SEED: the 8 bytes at offset x are a function of SEED and x.
"""
import sys


def pattern(seed, start, count):
    a = (seed + 1) * 0xD1B54A32D192ED03 & (1 << 64) - 1
    return b''.join((a ^ (x * 0x9E3779B97F4A7C15 & (1 << 64) - 1)).to_bytes(8, 'little') for x in range(start // 8, (start + count) // 8))


def pieces(path):
    """(offset in the file, device, offset on the device, length), by the arithmetic of docs/format.md"""
    lines = open(path).read().split('\n')
    _, size, _, chunk = lines[0].split()
    size, chunk = int(size), int(chunk)
    extents = [tuple(map(int, line.split())) for line in lines[1:] if line]
    if chunk == 0:
        at = 0
        for device, offset, length in extents:
            yield at, device, offset, min(length, size - at)
            at += length
        return
    for k in range((size + chunk - 1) // chunk):
        device, offset, _ = extents[k % len(extents)]
        yield k * chunk, device, offset + k // len(extents) * chunk, min(chunk, size - k * chunk)


def index_of(position, path, start):
    with open(path, 'rb') as f:
        f.seek(start + 40)
        if int.from_bytes(f.read(4), 'little') == 2:
            return position
        f.seek(start + 512 + 48)
        return int.from_bytes(f.read(4), 'little')


def main():
    what, path, seed, places = sys.argv[1], sys.argv[2], int(sys.argv[3]), [p.rsplit(':', 1) for p in sys.argv[4:]]
    places = {index_of(i, file, int(start)): (file, start) for i, (file, start) in enumerate(places)}
    total, devices = 0, set()
    for at, device, offset, length in pieces(path):
        file, start = places[device]
        want = pattern(seed, at, length)
        with open(file, 'r+b') as f:
            f.seek(int(start) + offset)
            if what == 'write':
                f.write(want)
            elif f.read(length) != want:
                sys.exit('%s: %d bytes at %d of %s (file offset %d) are not those of seed %d' % (path, length, int(start) + offset, file, at, seed))
        total += length
        devices.add(device)
    print('%d bytes on device(s) %s' % (total, ', '.join(map(str, sorted(devices)))))


main()
