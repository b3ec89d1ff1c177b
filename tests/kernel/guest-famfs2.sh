# In one guest: a famfs-2 file system that the host made and masters, on the memory behind the guest's devices.
. "$TESTS/guest.sh"
devices=(/dev/dax*)
start_daemon /run/log/famfs2 "$MASTER" "${devices[@]}"; result "mount of a famfs-2 file system" $?
check "subscribed to the host's master" await "subscribed to the master" /run/log/famfs2 $DAEMON
[ "$(attribute dialect $M)" = B ]; result "the kernel maps its files itself" $? "$(attribute dialect $M)"
check "what the host wrote at the map's places is in the file" mtest mread $M/from-host 0 8M 5
check "a file is written for the host to look at" mtest mwrite $M/to-host 0 8M 6
check "and read" mtest read $M/to-host 0 8M 6
check "unmount" umount $M
wait $DAEMON; result "the daemon ends" $?
start_daemon /run/log/again "" "${devices[@]}"; result "mount again without a master, by the log in memory alone" $?
check "the content is there" mtest mread $M/to-host 0 8M 6
check "unmount" umount $M
wait $DAEMON
grep -hE "fail|err" /run/log/famfs2 /run/log/again | sed "s/^/log: /"
[ -z "$(dmesg | grep famfs_ | grep -iE 'warn|bug')" ]; result "the kernel does not complain" $? "$(dmesg | grep famfs_ | head -1)"
true
