# What cgroup v2 enforces, seen from inside and from the guest. Each check prints one line.
nsinit=$1
root=/tmp/root
mkdir -p $root/bin $root/dev $root/proc $root/sys $root/tmp
cp /bin/busybox $root/bin/busybox
for name in sh cat head tail sleep sort echo dd mknod grep true; do
    ln -s busybox $root/bin/$name
done

check() { # name, wanted, found
    if [ "$2" = "$3" ]; then echo "check: ok $1"; else echo "check: FAILED $1: wanted <$2>, found <$3>"; fi
}

# Waits until a command succeeds, up to a minute.
eventually() {
    n=0
    until "$@"; do
        n=$((n + 1))
        [ $n -lt 300 ] || return 1
        sleep 0.2
    done
}
running() { "$nsinit" --root /run/nsinit state --id a >/tmp/state 2>/dev/null; }
# The command `oom` waits for notices.
watched() { ls -l /proc/$watcher/fd | grep -q eventpoll; }

# Runs a command in a configuration in which one cgroup field has another value.
run() { # field, value, command...
    "$nsinit" config --rootfs $root | grep -v "\"$1\":" |
        sed "s|\"cgroups\": {|\"cgroups\": {\"$1\": $2,|" >/tmp/config.json
    shift 2
    "$nsinit" --root /run/nsinit exec --config /tmp/config.json -- "$@"
}

capabilities=$(grep CapEff /proc/self/status | tr -cd '0-9a-f' | tail -c 16)
check 'the guest has all capabilities' 000001ffffffffff "$capabilities"

"$nsinit" --root /run/nsinit exec --rootfs $root --memory-limit 33554432 --cpushares 512 --id a -- /bin/sleep 1000 &
pid=$!
eventually running
path=/sys/fs/cgroup$(grep -o '/sys/fs/cgroup[^"]*' /tmp/state | head -n 1 | sed 's|/sys/fs/cgroup||')
check 'memory.max' 33554432 "$(cat $path/memory.max)"
check 'cpu.weight of 512 shares' 59 "$(cat $path/cpu.weight)"
check 'a process is in the cgroup' yes "$([ -n "$(cat $path/cgroup.procs)" ] && echo yes)"
"$nsinit" --root /run/nsinit pause --id a
check 'frozen' 'frozen 1' "$(grep frozen $path/cgroup.events)"
"$nsinit" --root /run/nsinit unpause --id a
check 'thawed' 'frozen 0' "$(grep frozen $path/cgroup.events)"
"$nsinit" --root /run/nsinit stats --id a >/tmp/stats
check 'memory is counted' yes "$(grep -A3 '"memory_stats"' /tmp/stats | grep -q '"usage": *[1-9{]' && echo yes)"
"$nsinit" --root /run/nsinit exec --id a -- /bin/cat /proc/self/cgroup >/tmp/own
check 'a further process is in it' "0::${path#/sys/fs/cgroup}" "$(cat /tmp/own)"
"$nsinit" --root /run/nsinit oom --id a >/tmp/oom &
watcher=$!
eventually watched
"$nsinit" --root /run/nsinit exec --id a -- /bin/sh -c 'head -c 80000000 /dev/zero | tail' >/dev/null 2>&1
eventually [ -s /tmp/oom ]
check 'the notice of OOM' 'OOM notification received' "$(head -n 1 /tmp/oom)"
kill $pid
wait $pid $watcher
check 'nothing is left' no "$([ -d $path ] && echo yes || echo no)"

run pids_limit 6 /bin/sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done; echo not limited' >/tmp/pids 2>&1
check 'pids.max' yes "$(grep -q 'fork' /tmp/pids && echo yes || cat /tmp/pids)"

# The kernel clones no process into a cgroup that is full, but moves one there, as runc does.
full() { [ "$(cat $path/pids.current)" = 1 ]; }
"$nsinit" config --rootfs $root | grep -v '"pids_limit":' |
    sed 's|"cgroups": {|"cgroups": {"pids_limit": 1,|' >/tmp/config.json
"$nsinit" --root /run/nsinit exec --config /tmp/config.json --id a -- /bin/sleep 1000 &
pid=$!
eventually running
path=/sys/fs/cgroup$(grep -o '/sys/fs/cgroup[^"]*' /tmp/state | head -n 1 | sed 's|/sys/fs/cgroup||')
eventually full
check 'a full cgroup' '1 1' "$(cat $path/pids.current) $(cat $path/pids.max)"
"$nsinit" --root /run/nsinit exec --id a -- /bin/sh -c 'cat /proc/self/cgroup; true & echo forked' >/tmp/joined 2>&1
check 'a further process enters it' "0::${path#/sys/fs/cgroup}" "$(head -n 1 /tmp/joined)"
check 'and cannot fork there' no "$(grep -q forked /tmp/joined && echo yes || echo no)"
kill $pid
wait $pid

run cpu_quota 20000 /bin/true
check 'a quota of the processor' 0 $?

"$nsinit" --root /run/nsinit exec --rootfs $root -- /bin/sh -c 'mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg' >/tmp/device 2>&1
check 'a device outside the list' yes "$(grep -q 'not permitted' /tmp/device && echo yes || cat /tmp/device)"
run allow_all_devices true /bin/sh -c 'mknod /tmp/zero c 1 5 && head -c 3 /tmp/zero' >/tmp/device 2>&1
check 'control: a device of an open list' 3 "$(wc -c </tmp/device)"

run oom_kill_disable true /bin/true 2>/tmp/refused
check 'a knob that v2 lacks is refused by name' yes "$(grep -q oom_kill_disable /tmp/refused && echo yes || cat /tmp/refused)"
check 'no state is left' '' "$(ls /run/nsinit)"
