# In one guest: a file system that the host made and masters, on the memory behind the guest's devices; and logs with forged maps.
. "$TESTS/guest.sh"
S=/mnt/sync

# The kernel numbers devices as it finds them: the largest joins the file system later, the next two are its own.
large=() small=() late=
for d in /sys/bus/dax/devices/*; do
    size=$(($(cat "$d/size") >> 20))
    if [ $size -gt 300 ]; then late=/dev/${d##*/}; elif [ $size -gt 200 ]; then large+=("/dev/${d##*/}"); else small+=("/dev/${d##*/}"); fi
done

start_daemon /run/log/daemon "$MASTER" "${large[@]}" '/dev/dax*'; result "mount of a file system that the host made" $?
check "subscribed to the host's master" await "subscribed to the master" /run/log/daemon $DAEMON
check "registered" await "registered in the host table" /run/log/daemon $DAEMON
check "what the host wrote at the map's places is in the file" mtest mread $M/from-host 0 8M 5
check "a file is written for the host to look at" mtest mwrite $M/to-host 0 8M 6
before=$(complaints)
refused "a file on a device that this host has not given its kernel does not open" "Input/output error" cat $M/elsewhere
result "and the kernel was not asked to map it" "$(($(complaints) != before))"

"$BIN/famfs" --timeout 10m devices add --master "$MASTER" "$LATE" && "$BIN/famfs" --timeout 10m creat --size 8M --contiguous --device 3 $M/late
result "a device joins the pool, and a file is made on it" $?
check "the mounted kernel is given it" await "device 3 is $late" /run/log/daemon $DAEMON
check "a file on it is written, by the same mount" mtest mwrite $M/late 0 8M 7
check "and read" mtest read $M/late 0 8M 7
attribute map $M/late >$S/map.late
[[ $(cat $S/map.late) == *$'\n'"3 "* ]]; result "its map names the pool's index, which is not the kernel's" $? "$(tail -1 $S/map.late)"
[[ $("$BIN/famfs" --timeout 10m hosts --master "$MASTER") == *" B "* ]]; result "the master knows the dialect of this host" $?
doctor=$("$BIN/famfs" --timeout 10m doctor 2>&1); missing=$(echo "$doctor" | grep MISSING)
[[ $doctor == *"$late: is in use by the mount at $M"* && $missing == *"$M: lacks device 2 "* && $missing != *$'\n'* ]]; result "doctor says what a mount has, and misses only the device that is elsewhere" $? "$missing"
check "devices of other file systems are nobody's meanwhile" "$BIN/famfs" --timeout 10m dax-mode devdax "${small[@]}"
check "and can be bound back" "$BIN/famfs" --timeout 10m dax-mode famfs "${small[@]}"
check "unmount" umount $M
wait $DAEMON
touch $S/host-master.done
for device in "${small[@]}"; do
    log=/run/log/${device##*/}
    start_daemon "$log" "" "$device"; status=$?
    grep -q "read-only with what comes before the damage" "$log"; said=$?
    result "a forged map is found at replay, and the mount is read-only" $((status + said)) "$(grep -o 'extent .*' "$log" | head -1)"
    [ "$(ls $M | tr '\n' ' ')" = "good " ]; result "what came before it is there, and nothing else" $? "$(ls $M | tr '\n' ' ')"
    umount $M; wait $DAEMON
done
[ "$(grep -ho 'extent .*' /run/log/dax* | sort -u | wc -l)" = 3 ]; result "they were a misaligned one, one past the device, one of an unknown device" $?
result "no forged map was seen by the kernel" "$(($(complaints) != before))" "$(dmesg | grep famfs_ | head -1)"
grep -hE "fail|err" /run/log/daemon | sed "s/^/log: /"
true
