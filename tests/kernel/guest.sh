# For the scripts that run in a guest; sourced. BIN is where the programs are; a line "PASS …" or "FAIL …" is a result.
M=/mnt/famfs
export FAMFS_STATE_DIR=/run/famfs-state DOTNET_TieredPGO=0 DOTNET_EnableDiagnostics=0
mkdir -p "$FAMFS_STATE_DIR" /run/log

# result NAME STATUS [TEXT]
result() { if [ "$2" -eq 0 ]; then echo "PASS $1${3:+: $3}"; else echo "FAIL $1${3:+: $3}"; fi; }

# check NAME COMMAND…: passes when the command does; its last line is shown.
check() {
    local name=$1 out status; shift
    out=$("$@" 2>&1); status=$?
    result "$name" $status "$(echo "$out" | tail -1)"
    return $status
}

# refused NAME TEXT COMMAND…: passes when the command fails and says TEXT.
refused() {
    local name=$1 text=$2 out status; shift 2
    out=$("$@" 2>&1); status=$?
    [ $status -ne 0 ] && [[ $out == *"$text"* ]]; result "$name" $? "$(echo "$out" | tail -1)"
}

# await TEXT FILE [PID]: until the file has the text; gives up after ten minutes or when the process has ended.
await() {
    local end=$(($(cut -d. -f1 /proc/uptime) + 600))
    until grep -q -- "$1" "$2" 2>/dev/null; do
        if [ "$(cut -d. -f1 /proc/uptime)" -ge "$end" ] || { [ -n "${3:-}" ] && ! kill -0 "$3" 2>/dev/null; }; then
            echo "waited for '$1' in $2:"; cat "$2"; return 1
        fi
        sleep 0.2
    done
}

# start_daemon LOG MASTER DEVICE… : in the background; DAEMON is its process (so not by check, which has a shell of its own).
start_daemon() {
    local log=$1 master=$2 devices=() d; shift 2
    for d in "$@"; do devices+=(--device "$d"); done
    "$BIN/famfsd" "${devices[@]}" ${master:+--master $master} "$M" >"$log" 2>&1 &
    DAEMON=$!
    await "mounted file system" "$log" $DAEMON
}

attribute() { getfattr -n "user.famfs.$1" --only-values --absolute-names "$2" 2>/dev/null; }

# What the kernel's famfs complains of; it explains each map and device that it does not take. A device that another mount
# has not let go of yet (EBUSY) is asked for again.
complaints() { dmesg | grep 'famfs_' | grep -vc 'fs_dax_get(.*err=-16'; }
