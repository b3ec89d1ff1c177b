# In each of two guests: one file system made, mounted, mastered and used by the guests themselves.
. "$TESTS/guest.sh"
S=/mnt/sync
devices=(/dev/dax0.0 /dev/dax1.0)

if [ "$GUEST_ID" = 0 ]; then
    doctor=$("$BIN/famfs" doctor 2>&1); status=$?
    echo "$doctor" | sed 's/^/doctor: /'
    [[ $status = 0 && $doctor == *"dialect       B "* && $doctor == *"fsdev_dax yes"* ]]; result "doctor knows the kernel and misses nothing" $?
    refused "mkfs refuses devices bound for famfs and says how" "--rebind" "$BIN/famfs" mkfs "${devices[@]}"
    check "mkfs on real dax devices, bound to device_dax for its time" "$BIN/famfs" mkfs --rebind "${devices[@]}"
    [ "$(for d in /sys/bus/dax/devices/*; do basename "$(readlink "$d/driver")"; done | sort -u)" = fsdev_dax ]
    result "the devices are bound to fsdev_dax again" $?
    start_daemon /run/log/daemon http://10.77.0.10:7733 "${devices[@]}"; result "mount without any master, through a private mount first" $?
    "$BIN/famfs-master" --device $M --listen http://10.77.0.10:7733 >/run/log/master 2>&1 &
    MASTER=$!
    check "a master runs through the mount of its own host" await "listening on" /run/log/master $MASTER
    check "the host is registered through .meta" await "registered in the host table" /run/log/daemon $DAEMON
    "$BIN/famfs" --timeout 10m creat --size 8M --contiguous $M/contiguous && "$BIN/famfs" --timeout 10m creat --size 24M --interleave 2 $M/interleaved && "$BIN/famfs" --timeout 10m creat --size 64M --contiguous $M/upcalls
    result "a contiguous file and one interleaved over two devices are created" $?
    gsync created 1500
    gsync mounted 1500
else
    gsync created 1500
    start_daemon /run/log/daemon http://g0:7733 "${devices[@]}"; result "the other host mounts" $?
    check "the other host subscribes to the master" await "subscribed to the master" /run/log/daemon $DAEMON
    check "the other host is registered" await "registered in the host table" /run/log/daemon $DAEMON
    gsync mounted 1500
fi
[ "$(attribute dialect $M)" = B ]; result "the mount speaks dialect B" $? "$(attribute dialect $M)"
[ "$(ls -A $M | sort | tr '\n' ' ')" = "contiguous interleaved upcalls " ]; result "the hidden directory is not listed" $?

if [ "$GUEST_ID" = 0 ]; then
    check "written by write(2), contiguous" mtest write $M/contiguous 0 8M 1
    check "written by mmap, interleaved" mtest mwrite $M/interleaved 0 24M 2
    gsync written 1500
    gsync back 1500
    check "the other host's mmap is read by read(2)" mtest read $M/contiguous 0 8M 3
    check "the other host's write(2) is read by mmap" mtest mread $M/interleaved 0 24M 4
    for f in contiguous interleaved; do attribute map $M/$f >$S/map.$f; done
    check "no message during a million faults and 1 GiB of reads and writes" "$TESTS/upcalls" $M $M/upcalls 1000000 1073741824
    before=$(complaints)
    refused "truncate is refused" "Operation not permitted" truncate -s 1M $M/contiguous
    refused "so is opening with O_TRUNC" "Operation not permitted" bash -c ": > $M/contiguous"
    [ "$(stat -c %s $M/contiguous)" = 8388608 ] && mtest mread $M/contiguous 0 8M 3 >/dev/null && mtest read $M/contiguous 0 8M 3 >/dev/null
    result "and the file is still good" $?
    result "the kernel had nothing to complain of" "$((before != 0 || $(complaints) != 0))" "$(dmesg | grep famfs_ | head -1)"
    gsync used 1500
    gsync restarted 1500
    kill $MASTER; wait $MASTER; result "the master ends in order" $? "$(tail -1 /run/log/master)"
else
    gsync written 1500
    check "what write(2) wrote is read by mmap on the other host" mtest mread $M/contiguous 0 8M 1
    check "what mmap wrote is read by mmap on the other host" mtest mread $M/interleaved 0 24M 2
    check "written back by mmap" mtest mwrite $M/contiguous 0 8M 3
    check "written back by write(2)" mtest write $M/interleaved 0 24M 4
    gsync back 1500
    gsync used 1500
    kill -9 $DAEMON; wait $DAEMON 2>/dev/null
    refused "a mount whose daemon was killed says so" "Transport endpoint is not connected" ls $M
    refused "and is no device" "daemon of this mount is gone" "$BIN/famfs-master" --device $M
    check "it is unmounted" "$BIN/famfs" --timeout 10m umount $M
    start_daemon /run/log/daemon2 http://g0:7733 "${devices[@]}"; result "a daemon mounts again" $?
    check "and is registered again" await "registered in the host table" /run/log/daemon2 $DAEMON
    check "and the files are as they were" mtest mread $M/interleaved 0 24M 4
    gsync restarted 1500
fi
check "an idle mount is unmounted by umount(8)" umount $M
wait $DAEMON; result "and its daemon ends" $? "$(tail -1 "$(ls -t /run/log/daemon* | head -1)")"
gsync unmounted 1500
if [ "$GUEST_ID" = 0 ]; then
    check "a device is given back to device_dax" "$BIN/famfs" dax-mode devdax /dev/dax0.0
    check "and taken again" "$BIN/famfs" dax-mode famfs /dev/dax0.0
fi
grep -hE "fail|err" /run/log/* | sed "s/^/log: /"
true
