#!/usr/bin/env bash
# docker with the runtime: docker.sh RUNTIME host|v2|systemd
set -euo pipefail
# shellcheck source=client.sh
. "$(dirname "$0")/client.sh"
enter "$@"

image=bb:1
cat >"$work/daemon.json" <<END
{
    "runtimes": {"tested": {"path": "$runtime"}},
    "default-runtime": "tested",
    "exec-opts": ["native.cgroupdriver=$manager"]
}
END

# The init of containers, if the runtime has one.
init=$(command -v docker-init)
! "$runtime" init-image "$work/init" 2>/dev/null || init=$work/init

# Without it newer versions warn about containers with the network of another.
echo 1 >/proc/sys/net/ipv4/ip_forward
# --default-ulimit: what needs no CAP_SYS_RESOURCE.
dockerd --config-file "$work/daemon.json" --host "unix://$work/docker.sock" \
    --pidfile "$work/docker.pid" --data-root "$work/data" --exec-root "$work/exec" --storage-driver overlay2 \
    --bridge none --iptables=false --ip6tables=false --userland-proxy=false \
    --init-path "$init" --default-ulimit nofile=1024:1024 --cgroup-parent "$parent" \
    >"$work/dockerd.log" 2>&1 &
daemon=$!
client docker --host "unix://$work/docker.sock"
settle docker version >/dev/null || { cat "$work/dockerd.log"; exit 1; }

run() { docker run --rm --network none "$@"; }
background() { docker run --detach --network none "$@" >/dev/null; }
inspect() { docker inspect --format "$2" "$1"; }
state() { inspect "$1" '{{.State.Status}}'; }
# The cgroup of a container, below the root of each hierarchy.
cgroup() { cgroup_path "$(inspect "$1" '{{.Id}}')" docker; }
remove() { docker rm --force "$1" >/dev/null; }

docker import --change 'ENV PATH=/bin' --change 'CMD ["/bin/sh"]' "$work/rootfs.tar" $image >/dev/null
check 'the runtime is the default one' 0 tested docker info --format '{{.DefaultRuntime}}'

# --- run ---
check 'output' 0 hi run $image echo hi
check 'standard input' 0 typed sh -c 'echo typed | "$@"' - docker run --rm --interactive --network none $image cat
check 'both streams' 0 err sh -c '"$@" 2>&1 >/dev/null' - \
    docker run --rm --network none $image sh -c 'echo out; echo err >&2'
check 'exit status' 3 '' run $image sh -c 'exit 3'
check 'no such program' 127 '*executable file not found in $PATH*' run $image nosuchprogram
check 'no such path' 127 '*no such file or directory*' run $image /no/such/program
check 'a file that is no program' 126 '*permission denied*' run $image /etc/plain
check 'a directory' 126 '*@(is a directory|permission denied)*' run $image /etc
check 'no terminal' 1 '' run $image test -t 0
check 'a terminal' 0 '' run --tty $image sh -c 'test -t 0 && test -t 1 && test -t 2'
check 'the size of the terminal' 0 '*size 30 100*' on_terminal \
    docker run --rm --network none --interactive --tty $image \
    sh -c 'until stty size | grep -q 100; do sleep 0.1; done; echo size $(stty size)'
check 'exit status of one on a terminal' 4 '*' on_terminal \
    docker run --rm --network none --interactive --tty $image sh -c 'exit 4'
check 'user and groups' 0 'uid=1000(user) gid=50(staff) groups=*1000(user)' \
    run --user 1000:50 --group-add 1000 $image id
check 'a user by name' 0 'uid=1000(user) gid=1000(user)*' run --user user $image id
check 'a user cannot do what root can' 1 '*ermission denied*' run --user user $image touch /etc/new
check 'working directory, made for it' 0 /new/directory run --workdir /new/directory $image pwd
check 'environment' 0 'two words' run --env 'V=two words' $image sh -c 'echo "$V"'
check 'host name' 0 box run --hostname box $image hostname
check 'process numbers' 0 1 run $image sh -c 'echo $$'
check 'control: a capability' 0 '' run $image chown 1000 /etc/plain
check 'a dropped capability' 1 '*not permitted*' run --cap-drop CHOWN $image chown 1000 /etc/plain
check 'no capability' 0 'CapEff:?0000000000000000' run --cap-drop ALL $image grep CapEff /proc/self/status
check 'an added capability' 0 '' run --cap-add SYS_ADMIN --security-opt apparmor=unconfined \
    $image mount -t tmpfs none /tmp
check 'no new privileges' 0 'NoNewPrivs:?1' \
    run --security-opt no-new-privileges $image grep NoNewPrivs /proc/self/status
check 'read-only root' 1 '*ead-only file system*' run --read-only $image touch /etc/new
check 'a tmpfs' 0 'tmpfs /scratch tmpfs rw,*size=1024k*' \
    run --read-only --tmpfs /scratch:size=1m $image sh -c 'touch /scratch/new && grep /scratch /proc/mounts'
mkdir "$work/volume"
echo outside >"$work/volume/file"
check 'a read-only bind mount' 1 'outside*ead-only file system*' \
    run --volume "$work/volume:/volume:ro" $image sh -c 'exec 2>&1; cat /volume/file && echo inside >/volume/file'
check 'a bind mount' 0 '' run --volume "$work/volume:/volume" $image sh -c 'echo inside >/volume/file'
check 'what was written there' 0 inside cat "$work/volume/file"
echo outside >"$work/volume/from"
check 'a named volume' 0 kept run --volume kept:/volume $image sh -c 'echo kept >/volume/file && cat /volume/file'
docker volume rm kept >/dev/null
check 'a device' 0 'crw*' run --device /dev/kmsg $image ls -l /dev/kmsg
check 'a device that is not allowed' 1 '*not permitted*' \
    run $image sh -c 'mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg'
check 'a masked path' 0 '' run $image ls -A /sys/firmware
check 'a read-only path' 1 '*ead-only file system*' run $image sh -c 'echo 1 >/proc/sys/kernel/panic'
check 'size of /dev/shm' 0 '*size=2048k*' run --shm-size 2m $image grep ' /dev/shm ' /proc/mounts
check 'a sysctl' 0 9 run --sysctl kernel.msgmni=9 $image cat /proc/sys/kernel/msgmni
check 'a resource limit' 0 99 run --ulimit nofile=99:99 $image sh -c 'ulimit -n'
check 'the init of docker' 0 '/sbin/docker-init -- *' run --init $image sh -c "tr '\\0' ' ' </proc/1/cmdline"
check 'exit status below the init' 3 '' run --init $image sh -c 'exit 3'
check 'end by a signal below the init' 137 '' run --init $image sh -c 'kill -KILL $$'
if [ "$init" = "$work/init" ]; then
    check 'the init of pidone' 0 "$init" docker info --format '{{.InitBinary}}'
    # It asks for the version, and complains of one that it does not understand.
    check 'its version' 1 '' grep -E "(retrieve|parse) .*init version" "$work/dockerd.log"
    check 'the file in the container' 0 '' run --init --volume "$init:/expected:ro" $image cmp /expected /sbin/docker-init
    check 'zombies are reaped' 0 0 run --init $image \
        sh -c '(sleep 0.1 & sleep 0.1 &); sleep 1; grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null | wc -l'
fi
background --name peer $image sleep 1000
check 'processes of another container' 0 '*sleep 1000*' run --pid container:peer $image ps
check 'the same network' 0 "$(docker exec peer readlink /proc/self/ns/net | sed 's/[][]/\\&/g')" \
    docker run --rm --network container:peer $image readlink /proc/self/ns/net
remove peer

# --- what ordinary images expect ---
both='echo logged >/dev/stdout; echo warned >/dev/stderr'
check 'a user opens its standard streams' 0 '@(logged*warned|warned*logged)' run --user 1000 $image sh -c "$both"
check 'the streams of a terminal too' 0 $'logged\nwarned' run --user 1000 --tty $image sh -c "$both"
check 'a file at the link of systemd-resolved' 0 outside \
    run --volume "$work/volume/from:/etc/resolv.conf" $image cat /etc/resolv.conf
check 'a working directory that only root may enter' 0 /closed run --user 1000 --workdir /closed $image pwd
# dockerd asks for every capability then, and not every machine has them all.
if setpriv --dump | grep -q 'Capability bounding set:.*sys_resource'; then
    check 'a privileged one may mount' 0 '' run --privileged $image mount -t tmpfs none /tmp
    check 'nothing is masked for a privileged one' 1 '' \
        run --privileged $image grep ' /sys/firmware ' /proc/mounts
else
    echo 'skipped: a privileged container needs CAP_SYS_RESOURCE'
fi
check 'a working directory that a read-only root lacks' 0 /made/up \
    run --read-only --workdir /made/up $image pwd
old_profile >"$work/old.json"
check 'a profile of older days' 0 runs run --security-opt "seccomp=$work/old.json" $image echo runs

# --- seccomp ---
check 'the default profile' 0 'Seccomp:?2' run $image grep Seccomp: /proc/self/status
check 'it refuses a namespace' 1 '*not permitted' run $image unshare -U true
check 'control: no profile' 0 '' run --security-opt seccomp=unconfined $image unshare -U true

# --- limits, as the kernel has them ---
if has_controllers; then
    background --name limited --memory 64m --cpu-shares 512 --pids-limit 33 --cpus 0.5 $image sleep 1000
    group=$(cgroup limited)
    check 'memory' 0 67108864 limit memory "$group" memory.limit_in_bytes memory.max
    check 'shares of the processor' 0 '@(512|20|59)' limit cpu "$group" cpu.shares cpu.weight
    check 'quota of the processor' 0 '50000*' limit cpu "$group" cpu.cfs_quota_us cpu.max
    check 'number of processes' 0 33 limit pids "$group" pids.max pids.max
    check 'update' 0 limited docker update --memory 96m --memory-swap 192m --cpu-shares 1024 limited
    check 'updated memory' 0 100663296 limit memory "$group" memory.limit_in_bytes memory.max
    check 'updated shares' 0 '@(1024|39|100)' limit cpu "$group" cpu.shares cpu.weight
    check 'what was not updated' 0 33 limit pids "$group" pids.max pids.max
    check 'statistics' 0 '*/ 96MiB [1-9]*' docker stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' limited
    remove limited
    background --name greedy --memory 16m --memory-swap 16m $image tail /dev/zero
    check 'end by memory' 0 137 docker wait greedy
    check 'it is reported' 0 true inspect greedy '{{.State.OOMKilled}}'
    remove greedy
fi

# --- a container that lives on ---
background --name one --env A=b $image \
    sh -c 'echo to the log; trap "exit 9" TERM; while :; do sleep 0.1; done'
check 'running' 0 running state one
check 'logs' 0 'to the log' settle docker logs one
check 'exec' 0 'inside b' docker exec one sh -c 'echo inside $A'
check 'exec: standard input' 0 typed sh -c 'echo typed | docker exec --interactive one cat'
check 'exec: exit status' 5 '' docker exec one sh -c 'exit 5'
check 'exec: no such program' '@(126|127)' '*executable file not found in $PATH*' docker exec one nosuchprogram
check 'exec: a file that is no program' 126 '*permission denied*' docker exec one /etc/plain
check 'exec: a user' 0 1000 docker exec --user 1000 one id -u
check 'exec: directory and environment' 0 '/tmp c' \
    docker exec --workdir /tmp --env A=c one sh -c 'echo $PWD $A'
check 'exec: a terminal' 0 '*' on_terminal docker exec --interactive --tty one test -t 0
check 'exec: no terminal' 1 '' docker exec one test -t 0
for count in first second third; do
    check "exec: the $count interactive terminal" 0 '*/dev/pts/*' on_terminal docker exec --interactive --tty one tty
done
check 'exec: a user opens its standard streams' 0 logged \
    docker exec --user 1000 one sh -c 'echo logged >/dev/stdout'
check 'exec: a terminal that hangs up' 0 '' hung_up 'docker exec one test -e /tmp/waits' \
    docker exec --interactive --tty one sh -c 'touch /tmp/waits; sleep 1000'
check 'the container runs on' 0 running state one
check 'exec: the profile' 1 '*not permitted' docker exec one unshare -U true
check 'exec: the same namespaces' 0 same docker exec one sh -c \
    'for n in pid net mnt ipc uts; do
         [ "$(readlink /proc/1/ns/$n)" = "$(readlink /proc/self/ns/$n)" ] || exit 1; done; echo same'
check 'exec in the background' 0 '' docker exec --detach one touch /tmp/touched
check 'it ran' 0 '' settle docker exec one test -e /tmp/touched
check 'top' 0 '*sh -c*' docker top one -o pid,args
docker pause one >/dev/null
check 'paused' 0 paused state one
check 'frozen' 0 yes frozen "$(cgroup one)"
check 'exec in a paused one' 1 '*is paused*' docker exec one true
docker unpause one >/dev/null
check 'running again' 0 running state one
check 'thawed' 0 no frozen "$(cgroup one)"
docker kill --signal TERM one >/dev/null
check 'kill with a signal that it handles' 0 9 docker wait one
check 'start again' 0 one docker start one
check 'running once more' 0 running state one
check 'restart' 0 one docker restart -t 5 one
check 'stop' 0 one docker stop -t 5 one
check 'its exit status' 0 9 inspect one '{{.State.ExitCode}}'
check 'what a stopped one wrote' 0 '*A /tmp/touched*' docker diff one
remove one

background --name two $image sleep 1000
check 'stop of one that ignores the signal' 0 two docker stop -t 1 two
check 'killed' 0 137 inspect two '{{.State.ExitCode}}'
docker start two >/dev/null
check 'kill' 0 two docker kill two
check 'killed too' 0 137 docker wait two
docker start two >/dev/null
docker pause two >/dev/null
check 'removal of a paused one' 0 two docker rm --force two
background --name three $image sleep 1000
check 'removal of a running one' 0 three docker rm --force three
check 'it is gone' 1 '*o such object*' inspect three .

background --name crashing --restart on-failure:2 $image sh -c 'exit 3'
check 'restarted twice' 0 '' settle sh -c \
    '[ "$(docker inspect --format "{{.RestartCount}} {{.State.Status}}" crashing)" = "2 exited" ]'
remove crashing

background --name healthy --health-cmd 'test -e /tmp/well' --health-interval 200ms --health-retries 1 \
    $image sleep 1000
health() { [ "$(inspect healthy '{{.State.Health.Status}}')" = "$1" ]; }
check 'unhealthy' 0 '' settle health unhealthy
docker exec healthy touch /tmp/well
check 'healthy' 0 '' settle health healthy
remove healthy

check 'no container is left' 0 '' docker ps --all --quiet

kill "$daemon"
wait "$daemon" || true
finish "$name" "$work/exec/runtime-runc/moby" "/run/$(basename "$runtime")"
