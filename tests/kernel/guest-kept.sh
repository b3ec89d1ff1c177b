# In each of two guests: the second one's mount is kept, and its daemon is killed KILLS times while programs have files mapped that
# programs of the first one store to. 0 wrong bytes, and 0 failed calls where the kernel sends requests again.
. "$TESTS/guest.sh"
S=/mnt/sync
devices=(/dev/dax0.0 /dev/dax1.0)

if [ "$GUEST_ID" = 0 ]; then
    offered=$("$BIN/famfs" doctor 2>&1 | sed -nE 's/^FUSE .*offers (0x[0-9a-fA-F]+).*/\1/p')
    if (((offered >> 39) & 1)); then resends=yes; else resends=no; fi
    echo $resends >$S/resends
    result "this kernel offers RESEND: $resends" $((${#offered} == 0))
    check "mkfs" "$BIN/famfs" mkfs --rebind "${devices[@]}"
    start_daemon /run/log/daemon http://10.77.0.10:7733 "${devices[@]}"; result "mount of the first guest" $?
    "$BIN/famfs-master" --device $M --listen http://10.77.0.10:7733 >/run/log/master 2>&1 &
    MASTER=$!
    check "a master runs" await "listening on" /run/log/master $MASTER
    check "registered" await "registered in the host table" /run/log/daemon $DAEMON
    "$BIN/famfs" --timeout 10m creat --size 8M $M/data && "$BIN/famfs" --timeout 10m creat --size 2M $M/live && python3 "$TESTS/kept-load.py" fill $M/data
    result "two files" $?
    gsync made 1500
    gsync mounted 1500
    nice -n 19 python3 "$TESTS/kept-load.py" count $M/live $S/stop >/run/log/count & COUNTER=$!
    gsync over 3000
    wait $COUNTER; result "the first guest has stored all the while" $? "$(cat /run/log/count) rounds"
    cat /run/log/count >$S/last
    gsync counted 1500
    more=$(($("$BIN/famfs" --timeout 10m -o json df $M | python3 -c 'import json, sys; print(json.load(sys.stdin)["free_bytes"])') + (4 << 20)))
    rm $M/data && "$BIN/famfs" --timeout 10m creat --wait-space --wait all --size $more $M/reused; result "space of a deleted file becomes another's" $?
    check "which is written" mtest mwrite $M/reused 0 $more 7
    echo $more >$S/more
    gsync reused 1500
    gsync unmounted 1500
    kill $MASTER; wait $MASTER
    umount $M; wait $DAEMON; result "the first guest unmounts" $?
else
    gsync made 1500
    resends=$(cat $S/resends)
    "$BIN/famfsd" --famfs-keeper --host-state "$FAMFS_STATE_DIR" >/run/log/keeper 2>&1 & KEEPER=$!
    check "a keeper runs" await "listening at" /run/log/keeper $KEEPER
    start_daemon /run/log/daemon http://g0:7733 "${devices[@]}"; result "mount of the second guest" $?
    check "registered" await "registered in the host table" /run/log/daemon $DAEMON
    check "kept" await "is kept" /run/log/daemon $DAEMON
    id=$(attribute mount $M)
    gsync mounted 1500
    # Software emulation is slow: daemon and script go first.
    nice -n 19 python3 "$TESTS/kept-load.py" load $M /run/counts /run/stop >/run/log/load 2>&1 & LOAD=$!
    counts() { od -An -v -tu8 -w40 /run/counts 2>/dev/null; }
    # advanced: each of them has gone on since this was called the last time.
    advanced() {
        local end=$(($(cut -d. -f1 /proc/uptime) + 600)) before now i
        read -r -a before <<<"$(counts)"
        until read -r -a now <<<"$(counts)" && ((${#now[@]} == 5)) && for i in 0 1 2 3 4; do ((now[i] > before[i])) || break; done && ((now[i] > before[i])); do
            [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ] && kill -0 $LOAD || { echo "from ${before[*]} to ${now[*]}"; return 1; }
            sleep 0.2
        done
    }
    until [ -s /run/counts ]; do sleep 0.1; done
    status=0
    for round in $(seq "${KILLS:-5}"); do
        advanced || { status=1; break; }
        # It may not die before the next one has answered what a thread of it waits for.
        kill -9 $DAEMON; former=$DAEMON
        "$BIN/famfsd" --device ${devices[0]} --device ${devices[1]} --master http://g0:7733 $M >/run/log/daemon.$round 2>&1 & DAEMON=$!
        await "took over" /run/log/daemon.$round $DAEMON || { status=1; break; }
        wait $former 2>/dev/null
        echo "took over $round times"
    done
    [ $status = 0 ] && advanced || status=1
    result "its daemon was killed ${KILLS:-5} times and programs went on" $status "rounds: $(counts)"
    touch /run/stop $S/stop
    wait $LOAD
    wrong=$(grep -c Wrong /run/log/load); failed=$(grep -vc Wrong /run/log/load)
    result "0 wrong bytes" "$wrong" "$(grep -m1 Wrong /run/log/load)"
    if [ "$resends" = yes ]; then result "0 failed calls" "$failed" "$(grep -vm1 Wrong /run/log/load)"; else echo "$failed failed calls, on a kernel without RESEND"; fi
    [ "$(attribute mount $M)" = "$id" ]; result "it is the same mount" $?
    gsync over 3000
    gsync counted 1500
    mapped=$(python3 -c 'import sys; d = open(sys.argv[1], "rb").read(); print(min(int.from_bytes(d[i:i + 8], "little") for i in range(0, len(d), 4096)))' $M/live)
    [ "$mapped" = "$(cat $S/last)" ]; result "what the first guest stored last is there" $? "$mapped"
    gsync reused 1500
    check "a file in reused space is read through a mount that was taken over" mtest mread $M/reused 0 "$(cat $S/more)" 7
    kill -9 $DAEMON; former=$DAEMON
    "$BIN/famfsd" --device ${devices[0]} --device ${devices[1]} --master http://g0:7733 $M >/run/log/daemon.reused 2>&1 & DAEMON=$!
    check "taken over once more" await "took over" /run/log/daemon.reused $DAEMON
    wait $former 2>/dev/null
    check "it is read again, and written" mtest mread $M/reused 0 "$(cat $S/more)" 7
    check "by the next daemon's kernel, too" mtest mwrite $M/reused 0 "$(cat $S/more)" 6
    result "the kernel had nothing to complain of" "$(complaints)" "$(dmesg | grep famfs_ | head -1)"
    kill -9 $DAEMON; wait $DAEMON 2>/dev/null
    check "without a daemon it is unmounted by the command" "$BIN/famfs" --timeout 10m umount $M
    start_daemon /run/log/again http://g0:7733 "${devices[@]}"; result "and its devices are free for the next mount" $?
    check "registered again" await "registered in the host table" /run/log/again $DAEMON
    check "a kept mount is unmounted by umount(8)" umount $M
    wait $DAEMON; result "and its daemon ends" $? "$(tail -1 /run/log/again)"
    [ -z "$("$BIN/famfsd" --famfs-keeper --list --host-state "$FAMFS_STATE_DIR")" ]; result "and nothing is kept" $?
    gsync unmounted 1500
fi
grep -hE "fail|err" /run/log/daemon* /run/log/again 2>/dev/null | sed "s/^/log: /" | head -20
true
