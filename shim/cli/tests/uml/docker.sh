# What docker's default configuration becomes on cgroup v2 with all controllers: the seccomp
# profile, and limits that are enforced. Each check prints one line.
pidone=$1
samples=$(dirname "$0")/../../samples/oci
mkdir -p /tmp/bundle/rootfs/bin
cp /bin/busybox /tmp/bundle/rootfs/bin/busybox
for name in sh cat head tail sleep echo dd unshare grep true mkdir date; do
    ln -s busybox /tmp/bundle/rootfs/bin/$name
done

check() { # name, wanted, found
    if [ "$2" = "$3" ]; then echo "check: ok $1"; else echo "check: FAILED $1: wanted <$2>, found <$3>"; fi
}

# The container's configuration as docker wrote it, but for what is only on docker's host, with
# other arguments and resources.
bundle() { # resources, arguments...
    python3 - "$samples/docker.json" "$@" >/tmp/bundle/config.json <<'END'
import json, sys
config = json.load(open(sys.argv[1]))
config["process"].update(args=sys.argv[3:], terminal=False)
config["linux"]["cgroupsPath"] = "/docker/box"
config["linux"]["resources"].update(json.loads(sys.argv[2]))
config["mounts"] = [m for m in config["mounts"] if not m["source"].startswith("/")]
config.pop("hooks", None)
json.dump(config, sys.stdout)
END
}

run() { # resources, arguments...
    bundle "$@"
    "$pidone" run --bundle /tmp/bundle box
}

run '{}' /bin/sh -c 'echo hello; grep Seccomp: /proc/self/status; grep CapEff /proc/self/status' >/tmp/out 2>&1
check 'it runs under its profile' "hello Seccomp: 2 CapEff: 00000000a80425fb" "$(echo $(cat /tmp/out))"
run '{}' /bin/unshare -n /bin/true >/tmp/out 2>&1
check 'a system call that the profile forbids' yes "$(grep -q 'not permitted' /tmp/out && echo yes || cat /tmp/out)"
python3 -c 'import json; c = json.load(open("/tmp/bundle/config.json")); c["linux"].pop("seccomp"); caps = c["process"]["capabilities"]
for s in ("bounding", "effective", "permitted"): caps[s].append("CAP_SYS_ADMIN")
json.dump(c, open("/tmp/bundle/config.json", "w"))'
"$pidone" run --bundle /tmp/bundle box >/tmp/out 2>&1
check 'control: the same call without the profile' 0 $?

run '{"memory": {"limit": 33554432, "swap": 33554432}}' /bin/sh -c 'cat /sys/fs/cgroup/memory.max; head -c 80000000 /dev/zero | tail >/dev/null; echo $?' >/tmp/out 2>&1
check 'memory' '33554432 137' "$(echo $(grep -v Killed /tmp/out))"
run '{"pids": {"limit": 6}}' /bin/sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do sleep 3 & done; echo not limited' >/tmp/out 2>&1
check 'pids' yes "$(grep -q fork /tmp/out && echo yes || cat /tmp/out)"
run '{"cpu": {"quota": 10000, "period": 100000}}' /bin/sh -c 'cat /sys/fs/cgroup/cpu.max; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; grep nr_throttled /sys/fs/cgroup/cpu.stat' >/tmp/out 2>&1
check 'cpu' '10000 100000' "$(head -n 1 /tmp/out)"
check 'the processor is held back' yes "$([ "$(grep nr_throttled /tmp/out | cut -d' ' -f2)" -gt 0 ] && echo yes || cat /tmp/out)"
run '{"unified": {"memory.high": "50000000", "pids.max": "77"}}' /bin/cat /sys/fs/cgroup/memory.high /sys/fs/cgroup/pids.max >/tmp/out 2>&1
check 'unified' '49999872 77' "$(echo $(cat /tmp/out))"

bundle '{}' /bin/sleep 1000
"$pidone" run --detach --bundle /tmp/bundle box </dev/null >/dev/null 2>&1
"$pidone" update --memory 40m --memory-swap 60m --pids-limit 9 --cpu-share 512 box
files=/sys/fs/cgroup/docker/box
check 'update' '41943040 20971520 9 59' "$(echo $(cat $files/memory.max $files/memory.swap.max $files/pids.max $files/cpu.weight))"
check 'exec is in the cgroup' '0::/docker/box' "$("$pidone" exec box cat /proc/self/cgroup)"
"$pidone" pause box
check 'paused' paused "$("$pidone" state box | grep status | cut -d'"' -f4)"
"$pidone" events --stats box >/tmp/events 2>&1
check 'events' yes "$(grep -q '"limit":41943040' /tmp/events && echo yes || cat /tmp/events)"
"$pidone" delete --force box
check 'nothing is left' '' "$(ls /run/pidone)$(ls -d $files 2>/dev/null)"
