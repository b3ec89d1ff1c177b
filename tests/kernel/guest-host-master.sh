# In one guest: a file system that the host made and masters, on the memory behind the guest's devices; and logs with forged maps.
. "$TESTS/guest.sh"
S=/mnt/sync

check "mount of a file system that the host made" start_daemon /run/log/daemon "$MASTER" /dev/dax0.0 /dev/dax1.0
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
n=2
for kind in misaligned past-device unknown-device; do
    start_daemon /run/log/$kind "" /dev/dax$n.0; status=$?
    grep -q "out of range or not aligned\|read-only" /run/log/$kind; said=$?
    result "a forged map ($kind) is found at replay" $((status + said)) "$(grep -m1 -A1 "out of range\|read-only" /run/log/$kind | tail -1 | sed 's/^ *//')"
    [ "$(ls $M | tr '\n' ' ')" = "good " ]; result "what came before it is there, and nothing else ($kind)" $? "$(ls $M | tr '\n' ' ')"
    umount $M; wait $DAEMON
    n=$((n + 1))
done
result "no forged map was seen by the kernel" "$(($(complaints) != before))" "$(dmesg | grep famfs | head -1)"
grep -hE "fail|err" /run/log/daemon | sed "s/^/log: /"
true
