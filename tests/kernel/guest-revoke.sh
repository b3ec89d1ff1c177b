# In each of two guests: the second one's daemon is stopped, and somebody has its mount declared gone although it is not. When the
# daemon continues it takes the files away from its kernel (docs/decisions/0076). Its famfs tells of each file that it gives up, and
# the kernel warns once of the size that it is told, and once that pages are dropped which programs have mapped and have not stored to.
# So these guests run without --strict, and every other line is looked for here.
. "$TESTS/guest.sh"
S=/mnt/sync
devices=(/dev/dax0.0 /dev/dax1.0)
python=(python3 "$TESTS/kept-load.py")
free() { "$BIN/famfs" --timeout 10m -o json df $M | python3 -c 'import json, sys; print(json.load(sys.stdin)["free_bytes"])'; }
# others: what the kernel warns of, but for these. Its famfs explains each access that it refuses.
others() { dmesg | grep -E 'WARNING|BUG|Oops' | grep -vE 'famfs_fuse_iomap_begin|dax_disassociate_entry'; }
deadline=$(($(cut -d. -f1 /proc/uptime) + 1200))
in_time() { [ "$(cut -d. -f1 /proc/uptime)" -lt $deadline ]; }

if [ "$GUEST_ID" = 0 ]; then
    check "mkfs" "$BIN/famfs" mkfs --rebind "${devices[@]}"
    start_daemon /run/log/daemon http://10.77.0.10:7733 "${devices[@]}"; result "mount of the first guest" $?
    "$BIN/famfs-master" --device $M --listen unix:/run/master.sock --listen http://10.77.0.10:7733 >/run/log/master 2>&1 &
    MASTER=$!
    check "a master runs" await "listening on" /run/log/master $MASTER
    check "registered" await "registered in the host table" /run/log/daemon $DAEMON
    "$BIN/famfs" --timeout 10m creat --size 4M $M/lost && "${python[@]}" fill $M/lost; result "a file" $?
    "$BIN/famfs" --timeout 10m creat --size 4M $M/stays && "${python[@]}" fill $M/stays; result "and another" $?
    gsync made 1500
    gsync stopped 1500
    until "$BIN/famfs" --timeout 10m --master unix:/run/master.sock hosts evict "$(cat $S/mount)" --fenced --detail "a test" >/run/log/evict 2>&1 || ! in_time; do sleep 1; done
    result "a mount that is silent is declared gone" "$(($(grep -c "is recorded as gone" /run/log/evict) == 0))" "$(tail -1 /run/log/evict)"
    before=$(free)
    rm $M/lost
    until [ "$(free)" -gt "$before" ] || ! in_time; do sleep 0.2; done
    [ "$(free)" -gt "$before" ]; result "and the space of its file is free" $?
    gsync evicted 1500
    gsync revoked 1500
    gsync unmounted 1500
    check "a file that stays is as it was" "${python[@]}" verify $M/stays
    kill $MASTER; wait $MASTER; result "the master ends in order" $?
    umount $M; wait $DAEMON; result "the first guest unmounts" $?
else
    gsync made 1500
    mkdir -p $M
    start_daemon /run/log/daemon http://g0:7733 "${devices[@]}"; result "mount of the second guest" $?
    check "registered" await "registered in the host table" /run/log/daemon $DAEMON
    for file in lost stays; do
        "${python[@]}" touch $M/$file /run/$file >/run/log/$file 2>&1 &
        declare $file=$!
        until [ -e /run/$file ] || ! kill -0 ${!file} || ! in_time; do sleep 0.1; done
        [ -e /run/$file ]; result "a program has $file mapped" $?
    done
    exec 9<$M/lost
    attribute mount $M >$S/mount
    kill -STOP $DAEMON
    gsync stopped 1500
    gsync evicted 1500
    kill -CONT $DAEMON
    check "the daemon takes files away when it reads that" await "programs have lost its files" /run/log/daemon $DAEMON
    for file in lost stays; do
        wait ${!file}; status=$?
        [ $status = 135 ]; result "who has $file mapped faults" $? "$status $(tail -1 /run/log/$file)"
    done
    refused "a descriptor of before gives no bytes" "" bash -c 'head -c 1 <&9'
    refused "nor does a name" "" head -c 1 $M/stays
    exec 9<&-
    gsync revoked 1500
    umount $M; wait $DAEMON; result "the second guest unmounts" $? "$(tail -1 /run/log/daemon)"
    start_daemon /run/log/again http://g0:7733 "${devices[@]}"; result "and mounts again" $?
    check "registered again" await "registered in the host table" /run/log/again $DAEMON
    check "a file that stays is as it was" "${python[@]}" verify $M/stays
    umount $M; wait $DAEMON; result "and unmounts" $?
    gsync unmounted 1500
fi
[ -z "$(others)" ]; result "no kernel had anything else to complain of" $? "$(others | head -1)"
grep -hE "fail|err|warning|not free" /run/log/* | sed "s/^/log: /" | head -20
true
