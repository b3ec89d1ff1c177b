# In each of two guests: a file is deleted while programs of both have it mapped. Its bytes stay until each has let go of it; then
# its memory becomes another file's, which both kernels map.
. "$TESTS/guest.sh"
S=/mnt/sync
devices=(/dev/dax0.0 /dev/dax1.0)
python=(python3 "$TESTS/kept-load.py")
SIZE=$((64 << 20))

# hold FILE: a program maps a file and reads all its pages, again and again, until let_go; HOLDER is its process.
hold() {
    rm -f /run/held /run/stop
    "${python[@]}" hold "$1" /run/held /run/stop >/run/log/holder 2>&1 &
    HOLDER=$!
    local end=$(($(cut -d. -f1 /proc/uptime) + 600))
    until [ -e /run/held ]; do
        kill -0 $HOLDER && [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ] || return 1
        sleep 0.1
    done
}

# rounds N: true when it has read the file N times more.
rounds() {
    local end=$(($(cut -d. -f1 /proc/uptime) + 600)) wanted=$(($(cat /run/held) + $1))
    until [ "$(cat /run/held)" -ge "$wanted" ]; do
        kill -0 $HOLDER && [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ] || { cat /run/log/holder; return 1; }
        sleep 0.1
    done
}

let_go() { touch /run/stop; wait $HOLDER; result "$1" $? "$(tail -1 /run/log/holder)"; }

free() { "$BIN/famfs" --timeout 10m -o json df $M | python3 -c 'import json, sys; print(json.load(sys.stdin)["free_bytes"])'; }

if [ "$GUEST_ID" = 0 ]; then
    check "mkfs" "$BIN/famfs" mkfs --rebind "${devices[@]}"
    start_daemon /run/log/daemon http://10.77.0.10:7733 "${devices[@]}"; result "mount of the first guest" $?
    "$BIN/famfs-master" --device $M --listen http://10.77.0.10:7733 >/run/log/master 2>&1 &
    MASTER=$!
    check "a master runs" await "listening on" /run/log/master $MASTER
    check "registered" await "registered in the host table" /run/log/daemon $DAEMON
    "$BIN/famfs" --timeout 10m creat --size $SIZE $M/old && "${python[@]}" fill $M/old; result "a file with content" $?
    "$BIN/famfs" --timeout 10m creat --size $(($(free) - (16 << 20))) $M/rest; result "and another that leaves little space" $?
    attribute map $M/old >/run/map.old
    gsync made 1500
else
    gsync made 1500
    mkdir -p $M
    start_daemon /run/log/daemon http://g0:7733 "${devices[@]}"; result "mount of the second guest" $?
    check "registered" await "registered in the host table" /run/log/daemon $DAEMON
fi
hold $M/old; result "a program has it mapped" $?
gsync held 1500
if [ "$GUEST_ID" = 0 ]; then
    check "it is deleted" rm $M/old
    gsync deleted 1500
    [ ! -e $M/old ] && rounds 3; result "its name is gone, and its bytes are there" $?
    more=$(($(free) + (32 << 20)))
    refused "no new file gets its space while both have it" "pending" "$BIN/famfs" creat --size $more $M/new
    let_go "this guest's program lets go of it, unharmed"
    gsync one 1500
    refused "nor while the other guest has it" "has 1 file open" "$BIN/famfs" creat --size $more $M/new
    gsync two 1500
    check "a new file gets it when the other guest has let go of it" "$BIN/famfs" --timeout 10m creat --wait-space --wait all --size $more $M/new
    attribute map $M/new >/run/map.new
    python3 - /run/map.old /run/map.new <<'PY'; result "it is the same memory" $?
import sys
old, new = ([tuple(map(int, line.split())) for line in open(path).read().split("\n")[1:] if line] for path in sys.argv[1:])
sys.exit(not any(a[0] == b[0] and a[1] < b[1] + b[2] and b[1] < a[1] + a[2] for a in old for b in new))
PY
    check "which was zeroed" cmp -n $more $M/new /dev/zero
    check "the new file is written by mmap" mtest mwrite $M/new 0 $more 8
    echo $more >$S/more
    gsync new 1500
    gsync back 1500
    check "what the other guest stored is read by mmap" mtest mread $M/new 0 $more 9
else
    gsync deleted 1500
    end=$(($(cut -d. -f1 /proc/uptime) + 600))
    while [ -e $M/old ] && [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ]; do sleep 0.1; done
    [ ! -e $M/old ] && rounds 3; result "its name is gone here, too, and its bytes are there" $?
    gsync one 1500
    rounds 3; result "and stay" $?
    gsync two 1500
    let_go "this guest's program lets go of it, unharmed"
    gsync new 1500
    more=$(cat $S/more)
    check "the new file is read by mmap" mtest mread $M/new 0 "$more" 8
    check "and stored to by mmap" mtest mwrite $M/new 0 "$more" 9
    gsync back 1500
fi
result "the kernel had nothing to complain of" "$(complaints)" "$(dmesg | grep famfs_ | head -1)"
gsync used 1500
if [ "$GUEST_ID" = 0 ]; then
    gsync unmounted 1500
    check "the new file is deleted" rm $M/new
    kill $MASTER; wait $MASTER; result "the master ends in order" $?
    umount $M; wait $DAEMON; result "the first guest unmounts" $?
else
    umount $M; wait $DAEMON; result "the second guest unmounts" $?
    gsync unmounted 1500
fi
grep -hE "fail|err|warning|not free" /run/log/* | sed "s/^/log: /" | head -20
true
