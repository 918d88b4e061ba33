#!/usr/bin/env bash
# containerd and ctr with the runtime: containerd.sh RUNTIME host|v2|systemd
set -euo pipefail
# shellcheck source=client.sh
. "$(dirname "$0")/client.sh"
enter "$@"

image=localhost/bb:1
cat >"$work/config.toml" <<END
version = 2
root = "$work/root"
state = "$work/state"
disabled_plugins = [
    "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "$work/containerd.sock"
[ttrpc]
address = "$work/containerd.sock.ttrpc"
END
containerd --config "$work/config.toml" >"$work/containerd.log" 2>&1 &
daemon=$!
# The namespace of containerd is the parent of the cgroups of its containers.
client ctr --address "$work/containerd.sock" --namespace "$name"
# By systemd every container has to be given its path: that of ID in `ctr run OPTION... IMAGE ID`.
if [ "$view" = systemd ]; then
    mv "$work/bin/ctr" "$work/bin/plain-ctr"
    cat >"$work/bin/ctr" <<END
#!/bin/bash
all=("\$@")
if [ "\$1" = run ]; then
    until [[ \$1 == localhost/* ]]; do shift; done
    set -- run --runc-systemd-cgroup --cgroup "$parent:ctr:\$2" "\${all[@]:1}"
fi
exec "$work/bin/plain-ctr" "\$@"
END
    chmod +x "$work/bin/ctr"
fi
settle ctr version >/dev/null || { cat "$work/containerd.log"; exit 1; }

options=(--runc-binary "$runtime")
# By default ctr asks for a share.
has_controllers || options+=(--cpu-shares 0)
# run [OPTION]... -- COMMAND...: a new container for the command. Each check is a process.
run() {
    local more=()
    while [ "$1" != -- ]; do more+=("$1"); shift; done
    ctr run --rm "${options[@]}" "${more[@]}" $image "run-$BASHPID" "${@:2}"
}
background() { ctr run --detach "${options[@]}" "${@:2}" $image "$1" sleep 1000; }
state() { ctr task ls | awk -v id="$1" '$1 == id { print $3 }'; }
in_one() { ctr task exec --exec-id "exec-$BASHPID" "$@"; }

image_archive "$work/image.tar" $image '["/bin/sh"]'
check 'import' 0 "*$image*" ctr image import "$work/image.tar"

# --- run ---
check 'output' 0 hi run -- echo hi
check 'standard input' 0 typed sh -c 'echo typed | "$@"' - \
    ctr run --rm "${options[@]}" $image typing head -n 1
check 'exit status' 3 '' run -- sh -c 'exit 3'
check 'no such program' 1 '*exec: "nosuchprogram": executable file not found in $PATH*' run -- nosuchprogram
check 'no such path' 1 '*no such file or directory*' run -- /no/such/program
check 'a file that is no program' 1 '*permission denied*' run -- /etc/plain
check 'no terminal' 1 '' run -- test -t 0
check 'a terminal of its size' 0 '*size 30 100*' on_terminal ctr run --rm --tty "${options[@]}" $image sized \
    sh -c 'until stty size | grep -q 100; do sleep 0.1; done; echo size $(stty size)'
check 'working directory' 0 /tmp run --cwd /tmp -- pwd
check 'environment' 0 'two words' run --env 'V=two words' -- sh -c 'echo "$V"'
check 'process numbers' 0 1 run -- sh -c 'echo $$'
check 'read-only root' 1 '*ead-only file system*' run --read-only -- touch /etc/new
mkdir "$work/volume"
check 'a bind mount' 0 '' run --mount "type=bind,src=$work/volume,dst=/volume,options=rbind:rw" -- touch /volume/new
check 'what was written there' 0 '' test -e "$work/volume/new"
check 'a read-only bind mount' 1 '*ead-only file system*' \
    run --mount "type=bind,src=$work/volume,dst=/volume,options=rbind:ro" -- touch /volume/newer
check 'a tmpfs' 0 'tmpfs /scratch tmpfs *size=1024k*' \
    run --mount type=tmpfs,src=tmpfs,dst=/scratch,options=size=1m -- grep /scratch /proc/mounts
check 'an added capability' 0 '' run --cap-add CAP_SYS_ADMIN -- mount -t tmpfs none /tmp
check 'control: without it' 1 '*ermission denied*' run -- mount -t tmpfs none /tmp
check 'a dropped capability' 1 '*not permitted*' run --cap-drop CAP_CHOWN -- chown 1000 /etc/plain
check 'new privileges' 0 'NoNewPrivs:?0' run --allow-new-privs -- grep NoNewPrivs /proc/self/status
check 'no new privileges' 0 'NoNewPrivs:?1' run -- grep NoNewPrivs /proc/self/status
check 'a device' 0 'crw*' run --device /dev/kmsg -- ls -l /dev/kmsg
check 'a device that is not allowed' 1 '*not permitted*' run -- sh -c 'mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg'
check 'a masked path' 0 '' run -- ls -A /sys/firmware
check 'control: no profile' 0 '' run -- unshare -U true
check 'the profile refuses a namespace' 1 '*not permitted' run --seccomp -- unshare -U true
background own
pid=$(ctr task ls | awk '$1 == "own" { print $2 }')
check 'the network namespace of another' 0 "$(readlink "/proc/$pid/ns/net" | sed 's/[][]/\\&/g')" \
    run --with-ns "network:/proc/$pid/ns/net" -- readlink /proc/self/ns/net
ctr task rm --force own >/dev/null 2>&1
ctr container rm own

# --- what ordinary images expect ---
user=localhost/user:1
image_archive "$work/user.tar" $user '["/bin/sh"]' 1000
check 'import of an image with a user' 0 "*$user*" ctr image import "$work/user.tar"
check 'a user opens its standard streams' 0 logged \
    ctr run --rm "${options[@]}" $user logs sh -c 'echo logged >/dev/stdout'
echo outside >"$work/volume/from"
check 'a file at the link of systemd-resolved' 0 outside \
    run --mount "type=bind,src=$work/volume/from,dst=/etc/resolv.conf,options=bind" -- cat /etc/resolv.conf
check 'a working directory that only root may enter' 0 /closed \
    ctr run --rm "${options[@]}" --cwd /closed $user closed pwd
check 'a working directory that a read-only root lacks' 0 /made/up run --read-only --cwd /made/up -- pwd
old_profile >"$work/old.json"
check 'a profile of older days' 0 runs run --seccomp --seccomp-profile "$work/old.json" -- echo runs
check 'a privileged one' 0 '' run --privileged -- mount -t tmpfs none /tmp

# --- limits, as the kernel has them ---
if has_controllers; then
    background limited --memory-limit 67108864 --cpu-shares 512 --cpu-quota 50000 --cpu-period 100000
    check 'memory' 0 67108864 limit memory "$(cgroup_path limited ctr)" memory.limit_in_bytes memory.max
    check 'shares of the processor' 0 '@(512|20|59)' limit cpu "$(cgroup_path limited ctr)" cpu.shares cpu.weight
    check 'quota of the processor' 0 '50000*' limit cpu "$(cgroup_path limited ctr)" cpu.cfs_quota_us cpu.max
    check 'metrics' 0 '*memory.limit_in_bytes*67108864*pids.current*[1-9]*' ctr task metrics limited
    ctr task rm --force limited >/dev/null 2>&1
    ctr container rm limited
    check 'end by memory' 137 '' run --memory-limit 16777216 -- tail /dev/zero
fi

# --- a container that lives on ---
background one --env A=b
check 'running' 0 RUNNING state one
check 'exec' 0 'inside b' in_one one sh -c 'echo inside $A'
check 'exec: exit status' 5 '' in_one one sh -c 'exit 5'
check 'exec: no such program' 1 '*exec: "nosuchprogram": executable file not found in $PATH*' in_one one nosuchprogram
check 'exec: a user' 0 1000 in_one --user 1000 one id -u
check 'exec: working directory' 0 /tmp in_one --cwd /tmp one pwd
check 'exec: no terminal' 1 '' in_one one test -t 0
check 'exec: a terminal' 0 '*size 30 100*' on_terminal ctr task exec --exec-id terminal --tty one \
    sh -c 'until stty size | grep -q 100; do sleep 0.1; done; echo size $(stty size)'
for count in first second third; do
    check "exec: the $count interactive terminal" 0 '*/dev/pts/*' \
        on_terminal ctr task exec --exec-id "terminal-$count" --tty one tty
done
check 'exec: the same namespaces' 0 same in_one one sh -c \
    'for n in pid net mnt ipc uts; do
         [ "$(readlink /proc/1/ns/$n)" = "$(readlink /proc/self/ns/$n)" ] || exit 1; done; echo same'
check 'exec in the background' 0 '' ctr task exec --detach --exec-id sleeper one sleep 999
check 'processes' 0 2 sh -c 'ctr task ps one | grep -c "^[0-9]"'
check 'metrics of a running one' 0 '*one*' ctr task metrics one
ctr task pause one
check 'paused' 0 PAUSED state one
check 'frozen' 0 yes frozen "$(cgroup_path one ctr)"
ctr task resume one
check 'running again' 0 RUNNING state one
check 'thawed' 0 no frozen "$(cgroup_path one ctr)"
check 'a signal for a process of exec' 0 '' ctr task kill --signal SIGKILL --exec-id sleeper one
check 'it has ended' 0 '' settle sh -c '[ "$(ctr task ps one | grep -c "^[0-9]")" = 1 ]'
check 'removal of a running one is refused' 1 '*' ctr task rm one
check 'kill' 0 '' ctr task kill --signal SIGKILL one
check 'stopped' 0 '' settle sh -c 'ctr task ls | grep -q "one .*STOPPED"'
check 'its exit status' 0 '*exit code 137*' ctr task rm one
ctr container rm one

background two
ctr task exec --detach --exec-id other two sleep 999
check 'kill of all' 0 '' ctr task kill --all --signal SIGKILL two
check 'all stopped' 0 '' settle sh -c 'ctr task ls | grep -q "two .*STOPPED"'
ctr task rm two >/dev/null 2>&1
ctr container rm two

background three
ctr task pause three
check 'removal of a paused one' 0 '*exit code 137*' ctr task rm --force three
ctr container rm three

check 'no container is left' 0 '' ctr container ls --quiet
kill "$daemon"
wait "$daemon" || true
finish "$name" "/run/containerd/runc/$name" "/run/$(basename "$runtime")"
