# In one guest: a file system that the host made and masters, on the memory behind the guest's devices; and logs with forged maps.
. "$TESTS/guest.sh"
S=/mnt/sync

# The kernel numbers devices as it finds them: the file system's two are the larger ones.
large=() small=()
for d in /sys/bus/dax/devices/*; do
    if [ "$(cat "$d/size")" -gt $((200 << 20)) ]; then large+=("/dev/${d##*/}"); else small+=("/dev/${d##*/}"); fi
done

check "mount of a file system that the host made" start_daemon /run/log/daemon "$MASTER" "${large[@]}"
check "subscribed to the host's master" await "subscribed to the master" /run/log/daemon $DAEMON
check "registered" await "registered in the host table" /run/log/daemon $DAEMON
check "what the host wrote at the map's places is in the file" mtest mread $M/from-host 0 8M 5
check "a file is written for the host to look at" mtest mwrite $M/to-host 0 8M 6
before=$(complaints)
refused "a file on a device that this host has not given its kernel does not open" "Input/output error" cat $M/elsewhere
result "and the kernel was not asked to map it" "$(($(complaints) != before))"
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
