#!/usr/bin/env bash
# podman with the runtime: podman.sh RUNTIME host|v2|systemd
set -euo pipefail
# shellcheck source=client.sh
. "$(dirname "$0")/client.sh"
enter "$@"

# Limits that need no CAP_SYS_RESOURCE, and no controller.
cat >"$work/containers.conf" <<END
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
pids_limit = 0
log_driver = "k8s-file"
[engine]
runtime = "tested"
cgroup_manager = "$manager"
[engine.runtimes]
tested = ["$runtime"]
[network]
network_backend = "netavark"
END
export CONTAINERS_CONF=$work/containers.conf
# podman 5 warns with every command where there are hierarchies of cgroup v1.
export PODMAN_IGNORE_CGROUPSV1_WARNING=1
image=localhost/bb:1

client podman --root "$work/store" --runroot "$work/run" --tmpdir "$work/libpod" \
    --storage-driver overlay --events-backend file
options=(--network none --cgroup-parent "$parent")
run() { podman run --rm "${options[@]}" "$@"; }
background() { podman run --detach "${options[@]}" "$@" >/dev/null; }
state() { podman inspect --format '{{.State.Status}}' "$1"; }
inspect() { podman inspect --format "$2" "$1"; }
# The cgroup of a container, below the root of each hierarchy.
cgroup() {
    local id
    id=$(inspect "$1" '{{.Id}}')
    if [ "$view" = systemd ]; then echo "$parent/libpod-$id.scope"; else echo "$name/libpod-$id"; fi
}

podman import --change 'ENV PATH=/bin' --change 'CMD ["/bin/sh"]' "$work/rootfs.tar" $image >/dev/null 2>&1

check 'the runtime' 0 "$runtime" podman info --format '{{.Host.OCIRuntime.Path}}'

# --- run ---
check 'output' 0 hi run $image echo hi
check 'standard input' 0 typed sh -c 'echo typed | "$@"' - \
    podman run --rm "${options[@]}" --interactive $image cat
check 'exit status' 3 '' run $image sh -c 'exit 3'
check 'no such program' 127 '*executable file*not found*' run $image nosuchprogram
check 'no such path' 127 '*no such file or directory*' run $image /no/such/program
check 'a file that is no program' 126 '*ermission denied*' run $image /etc/plain
check 'a directory' 126 '*' run $image /etc
check 'the error names the runtime once' 127 '!(*tested: *pidone: *)' run $image nosuchprogram
check 'an error of podman itself' 125 '*no-such-option*' run --no-such-option $image true
check 'no terminal' 1 '' run $image test -t 0
check 'a terminal' 0 '' run --tty $image sh -c 'test -t 0 && test -t 1 && test -t 2'
check 'the size of the terminal' 0 '*size 30 100*' on_terminal \
    podman run --rm "${options[@]}" --interactive --tty $image \
    sh -c 'until stty size | grep -qv ^0; do sleep 0.1; done; echo size $(stty size)'
check 'user and groups' 0 'uid=1000(user) gid=50(staff) groups=*1000(user)' \
    run --user 1000:50 --group-add 1000 $image id
check 'groups of the caller' 0 '0 5 6' setpriv --groups 5,6 \
    podman run --rm "${options[@]}" --group-add keep-groups $image id -G
check 'a user by name' 0 'uid=1000(user) gid=1000(user)*' run --user user $image id
check 'working directory' 0 /tmp run --workdir /tmp $image pwd
check 'environment' 0 'two words' run --env 'V=two words' $image sh -c 'echo "$V"'
check 'host name' 0 box run --hostname box $image hostname
check 'process numbers' 0 1 run $image sh -c 'echo $$'
check 'control: a capability' 0 '' run $image chown 1000 /etc/plain
check 'a dropped capability' 1 '*not permitted*' run --cap-drop CHOWN $image chown 1000 /etc/plain
check 'no capability' 0 'CapEff:?0000000000000000' run --cap-drop ALL $image grep CapEff /proc/self/status
check 'an added capability' 0 '' run --cap-add SYS_ADMIN --security-opt seccomp=unconfined \
    $image mount -t tmpfs none /tmp
check 'no new privileges' 0 'NoNewPrivs:?1' \
    run --security-opt no-new-privileges $image grep NoNewPrivs /proc/self/status
check 'read-only root' 1 '*ead-only file system*' run --read-only --read-only-tmpfs=false $image touch /etc/new
check 'a tmpfs' 0 'tmpfs /scratch tmpfs rw,*size=1024k*' \
    run --tmpfs /scratch:size=1m $image sh -c 'touch /scratch/new && grep /scratch /proc/mounts'
mkdir "$work/volume"
echo outside >"$work/volume/file"
check 'a read-only bind mount' 1 'outside*ead-only file system*' \
    run --volume "$work/volume:/volume:ro" $image sh -c 'exec 2>&1; cat /volume/file && echo inside >/volume/file'
check 'a bind mount' 0 '' run --volume "$work/volume:/volume" $image sh -c 'echo inside >/volume/file'
check 'what was written there' 0 inside cat "$work/volume/file"
echo outside >"$work/volume/from"
check 'a device' 0 crw* run --device /dev/kmsg $image ls -l /dev/kmsg
check 'a device at another path in a user namespace' 0 'crw* 0 * 0 *' \
    run --uidmap 0:100000:1000 --device /dev/fuse:/dev/other $image ls -ln /dev/other
check 'a device that is not allowed' 1 '*not permitted*' \
    run $image sh -c 'mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg'
check 'a masked path' 0 '' run $image ls -A /sys/firmware
check 'a read-only path' 1 '*ead-only file system*' \
    run $image sh -c 'echo 1 >/proc/sys/kernel/panic'
check 'a sysctl' 0 9 run --sysctl kernel.msgmni=9 $image cat /proc/sys/kernel/msgmni
check 'a resource limit' 0 99 run --ulimit nofile=99:99 --ulimit nproc=999:999 $image sh -c 'ulimit -n'
check 'nothing is masked for a privileged one' 1 '' run --privileged --cap-drop SYS_RESOURCE $image \
    grep ' /sys/firmware ' /proc/mounts
check 'the init of podman' 0 '*podman-init*' run --init $image sh -c "tr '\0' ' ' </proc/1/cmdline"
check 'exit status below the init' 3 '' run --init $image sh -c 'exit 3'
check 'end by a signal below the init' 137 '' run --init $image sh -c 'kill -KILL $$'
if "$runtime" init-image "$work/init" 2>/dev/null; then
    own=(run --init --init-path "$work/init")
    check 'the init of pidone' 0 '*podman-init -- *' "${own[@]}" $image sh -c "tr '\0' ' ' </proc/1/cmdline"
    check 'its file in the container' 0 '' "${own[@]}" --volume "$work/init:/expected:ro" $image \
        cmp /expected /proc/1/exe
    check 'exit status below it' 3 '' "${own[@]}" $image sh -c 'exit 3'
    check 'end by a signal below it' 137 '' "${own[@]}" $image sh -c 'kill -KILL $$'
    check 'no such program below it' 127 '*No such file or directory: nosuchprogram*' "${own[@]}" $image nosuchprogram
    check 'it reaps zombies' 0 0 "${own[@]}" $image \
        sh -c '(sleep 0.1 & sleep 0.1 &); sleep 1; grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null | wc -l'
fi

# --- what ordinary images expect ---
both='echo logged >/dev/stdout; echo warned >/dev/stderr'
check 'a user opens its standard streams' 0 '@(logged*warned|warned*logged)' run --user 1000 $image sh -c "$both"
check 'the streams of a terminal too' 0 $'logged\nwarned' run --user 1000 --tty $image sh -c "$both"
check 'a file at the link of systemd-resolved' 0 outside \
    run --volume "$work/volume/from:/etc/resolv.conf" $image cat /etc/resolv.conf
check 'a working directory that only root may enter' 0 /closed run --user 1000 --workdir /closed $image pwd
podman import --change 'ENV PATH=/bin' --change 'WORKDIR /made/up' "$work/rootfs.tar" localhost/cwd:1 >/dev/null 2>&1
check 'a working directory that a read-only root lacks' 0 /made/up run --read-only localhost/cwd:1 pwd
check 'an overlay of a volume' 0 $'outside\ninner' \
    run --volume "$work/volume:/volume:O" $image sh -c 'cat /volume/from; echo inner >/volume/from; cat /volume/from'
check 'the volume itself is as it was' 0 outside cat "$work/volume/from"
old_profile >"$work/old.json"
check 'a profile of older days' 0 runs run --security-opt "seccomp=$work/old.json" $image echo runs
check 'a privileged one may mount' 0 '' \
    run --privileged --cap-drop SYS_RESOURCE $image mount -t tmpfs none /tmp

# --- seccomp ---
check 'the default profile' 0 'Seccomp:?2' run $image grep Seccomp: /proc/self/status
# With the capability the kernel reports that this is no swap file, and the profile that the call is
# refused.
refused='swapoff /etc/plain'
check 'it refuses a call' 1 '*@(not permitted|not implemented)' run --cap-add SYS_ADMIN $image $refused
check 'control: no profile' 1 '*nvalid argument' \
    run --cap-add SYS_ADMIN --security-opt seccomp=unconfined $image $refused

# --- limits, as the kernel has them ---
if has_controllers; then
    background --name limited --memory 64m --cpu-shares 512 --pids-limit 33 $image sleep 1000
    group=$(cgroup limited)
    check 'memory' 0 67108864 limit memory "$group" memory.limit_in_bytes memory.max
    check 'shares of the processor' 0 '@(512|20|59)' limit cpu "$group" cpu.shares cpu.weight
    check 'number of processes' 0 33 limit pids "$group" pids.max pids.max
    check 'statistics' 0 '*/ 67.11MB' podman stats --no-stream --format '{{.MemUsage}}' limited
    check 'update' 0 "$(inspect limited '{{.Id}}')" \
        podman update --memory 96m --memory-swap 192m --cpu-shares 1024 limited
    check 'updated memory' 0 100663296 limit memory "$group" memory.limit_in_bytes memory.max
    check 'updated shares' 0 '@(1024|39|100)' limit cpu "$group" cpu.shares cpu.weight
    podman rm --force --time 0 limited >/dev/null
    check 'end by memory' 137 '' run --memory 16m $image tail /dev/zero
fi

# --- a container that lives on ---
background --name one --env A=b $image sh -c 'echo to the log; trap "exit 9" TERM; while :; do sleep 0.1; done'
check 'running' 0 running state one
check 'logs' 0 'to the log' settle podman logs one
check 'exec' 0 'inside b' podman exec one sh -c 'echo inside $A'
check 'exec: exit status' 5 '' podman exec one sh -c 'exit 5'
check 'exec: no such program' 127 '*executable file*not found*' podman exec one nosuchprogram
check 'exec: a file that is no program' 126 '*ermission denied*' podman exec one /etc/plain
check 'exec: a user' 0 1000 podman exec --user 1000 one id -u
check 'exec: directory and environment' 0 '/tmp c' podman exec --workdir /tmp --env A=c one sh -c 'echo $PWD $A'
check 'exec: a terminal' 0 '' podman exec --tty one test -t 0
check 'exec: no terminal' 1 '' podman exec one test -t 0
for count in first second third; do
    check "exec: the $count interactive terminal" 0 '*/dev/pts/*' on_terminal podman exec --interactive --tty one tty
done
check 'exec: a user opens its standard streams' 0 logged \
    podman exec --user 1000 one sh -c 'echo logged >/dev/stdout'
check 'exec: a terminal that hangs up' 0 '' hung_up 'podman exec one test -e /tmp/waits' \
    podman exec --interactive --tty one sh -c 'touch /tmp/waits; sleep 1000'
check 'the container runs on' 0 running state one
check 'exec: the profile' 0 'Seccomp:?2' podman exec one grep Seccomp: /proc/self/status
check 'exec: the same namespaces' 0 same podman exec one sh -c \
    'for n in pid net mnt ipc uts; do
         [ "$(readlink /proc/1/ns/$n)" = "$(readlink /proc/self/ns/$n)" ] || exit 1; done; echo same'
check 'exec: in the cgroup' 0 "*$(cgroup one)*" sh -c \
    'grep -hs . /proc/[0-9]*/cgroup || true' - # on the host; another process may end while it looks
check 'exec in the background' 0 '?*' podman exec --detach one touch /tmp/touched
check 'it ran' 0 '' settle podman exec one test -e /tmp/touched
check 'top' 0 '*sleep 0.1*' settle podman top one args
podman pause one >/dev/null
check 'paused' 0 paused state one
check 'frozen' 0 yes frozen "$(cgroup one)"
check 'exec in a paused one' 255 '*running containers*' podman exec one true
podman unpause one >/dev/null
check 'running again' 0 running state one
check 'thawed' 0 no frozen "$(cgroup one)"
podman kill --signal TERM one >/dev/null
check 'kill with a signal that it handles' 0 9 podman wait one
check 'start again' 0 one podman start one
check 'running once more' 0 running state one
check 'stop' 0 one podman stop --time 5 one
check 'its exit status' 0 9 inspect one '{{.State.ExitCode}}'
podman rm one >/dev/null

background --name two $image sleep 1000
check 'stop of one that ignores the signal' 0 *two podman stop --time 1 two
check 'killed' 0 137 inspect two '{{.State.ExitCode}}'
podman start two >/dev/null
check 'kill' 0 two podman kill two
check 'killed too' 0 137 podman wait two
podman start two >/dev/null
podman pause two >/dev/null
check 'removal of a paused one' 0 two podman rm --force --time 0 two
background --name three $image sleep 1000
check 'removal of a running one' 0 three podman rm --force --time 0 three
check 'it is gone' 1 '' podman container exists three

background --name healthy --health-cmd 'test -e /tmp/well' --health-interval disable $image sleep 1000
check 'unhealthy' 1 '*unhealthy*' podman healthcheck run healthy
podman exec healthy touch /tmp/well
check 'healthy' 0 '' podman healthcheck run healthy
podman rm --force --time 0 healthy >/dev/null

# --- a pod ---
# On cgroup v2 without systemd, podman gives the cgroup of a pod a device program that allows
# nothing.
podman pod create --name pod "${options[@]}" --share pid,ipc,net,uts \
    --share-parent="$([ "$view" = v2 ] && echo false || echo true)" >/dev/null
for member in a b; do
    podman run --detach --pod pod --name "$member" $image sleep 1000 >/dev/null
done
namespaces='for n in pid net ipc uts; do readlink /proc/self/ns/$n; done'
check 'members share namespaces' 0 '' \
    test "$(podman exec a sh -c "$namespaces")" = "$(podman exec b sh -c "$namespaces")"
check 'but not the files' 0 '' \
    test "$(podman exec a readlink /proc/self/ns/mnt)" != "$(podman exec b readlink /proc/self/ns/mnt)"
check 'each sees the processes of the other' 0 2 podman exec a sh -c 'ps | grep -c "[s]leep"'
podman pod pause pod >/dev/null
check 'a paused pod' 0 Paused podman pod inspect --format '{{.State}}' pod
podman pod unpause pod >/dev/null
check 'removal of the pod' 0 '?*' podman pod rm --force --time 0 pod

# --- build ---
# It is the whole path, which by systemd would be no slice.
build=(--isolation oci --network none --cgroup-parent "/$name-build")
[ "$view" != systemd ] || build=(--isolation oci --network none)
mkdir "$work/context"
cat >"$work/context/Containerfile" <<END
FROM $image
RUN echo built >/built && id -u >>/built
USER 1000
CMD ["cat", "/built"]
END
check 'build' 0 '*COMMIT*' podman build "${build[@]}" \
    --tag localhost/built:1 "$work/context"
check 'what was built' 0 $'built\n0' run localhost/built:1

# podman makes a mount of its store, which stays.
! mountpoint -q "$work/store/overlay" || umount "$work/store/overlay"
# Its own are those of pods, of conmon and the parent of all.
finish "[0-9a-f]{64}|conmon|$name" "/run/$(basename "$runtime")"
