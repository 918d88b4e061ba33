#!/usr/bin/env bash
# podman of an ordinary user with the runtime: rootless.sh RUNTIME systemd
#
# On a host of `../systemd/host.sh`, as its user with a manager and a bus. Each container gets its
# scope from the user's manager; podman calls the runtime in its user namespace.
set -euo pipefail
# shellcheck source=client.sh
. "$(dirname "$0")/client.sh"
work=$XDG_RUNTIME_DIR/$name
rootfs=$work/rootfs
prepare
trap 'rm -rf "$work"' EXIT

cat >"$work/containers.conf" <<END
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
pids_limit = 0
log_driver = "k8s-file"
[engine]
events_logger = "file"
runtime = "tested"
[engine.runtimes]
tested = ["$runtime"]
[network]
network_backend = "netavark"
END
export CONTAINERS_CONF=$work/containers.conf HOME=/home/person
image=localhost/bb:1
client podman --storage-driver overlay
run() { podman run --rm --network none "$@"; }
inspect() { podman inspect --format "$2" "$1"; }
# What the host has for the first process of a container.
group() { sed -n 's/^0:://p' "/proc/$(inspect "$1" '{{.State.Pid}}')/cgroup"; }
user_units() {
    systemctl --user list-units --all --plain --no-legend --full --no-pager --type=scope,timer |
        awk '/libpod|crun|runc|pidone/ { print $1 }'
}

podman import --change 'ENV PATH=/bin' --change 'CMD ["/bin/sh"]' "$work/rootfs.tar" $image >/dev/null 2>&1
check 'the runtime' 0 "$runtime" podman info --format '{{.Host.OCIRuntime.Path}}'
check 'the manager of cgroups is the default' 0 systemd podman info --format '{{.Host.CgroupManager}}'

# --- run ---
check 'output' 0 hi run $image echo hi
check 'exit status' 3 '' run $image sh -c 'exit 3'
check 'no such program' 127 '*executable file*not found*' run $image nosuchprogram
check 'a terminal' 0 '' run --tty $image sh -c 'test -t 0 && test -t 1'
check 'its own cgroup' 0 '*0::/' run $image cat /proc/self/cgroup
check 'root of a user namespace' 0 'uid=0(root)*' run $image id
check 'another user' 0 'uid=1000(user) gid=1000(user)*' run --user user $image id
check 'the id of the caller' 0 'uid=2000*' run --userns keep-id $image id
check 'a device' 0 'crw*' run --device /dev/fuse $image ls -l /dev/fuse
check 'the network of the host' 0 '' podman run --rm --network host $image true
check 'a privileged one' 0 '' run --privileged $image true
check 'split cgroups' 0 '' run --cgroups split $image true
check 'no cgroup for conmon' 0 '' run --cgroups no-conmon $image true

# --- a container that lives on ---
podman run --detach --network none --name one $image sleep 1000 >/dev/null
scope=libpod-$(inspect one '{{.Id}}').scope
check 'the scope' 0 "*/user@*.service/user.slice/$scope" group one
check 'of the manager of the user' 0 active systemctl --user is-active "$scope"
# podman 4 does not say it.
check 'the time that it has to stop' 0 '@(10s|1min 30s)' \
    systemctl --user show --property TimeoutStopUSec --value "$scope"
check 'exec' 0 inside podman exec one echo inside
check 'exec: a terminal' 0 '' podman exec --tty one test -t 0
check 'exec: in the cgroup' 0 '*0::/' podman exec one cat /proc/self/cgroup
check 'paused' 0 paused sh -c 'podman pause one >/dev/null; podman inspect --format "{{.State.Status}}" one'
check 'running again' 0 running \
    sh -c 'podman unpause one >/dev/null; podman inspect --format "{{.State.Status}}" one'
check 'stop' 0 '*one' podman stop --time 0 one
check 'the scope is gone' 0 not-found systemctl --user show --property LoadState --value "$scope"
check 'start again' 0 one podman start one
check 'kill' 0 one podman kill one
check 'killed' 0 137 podman wait one
check 'removal' 0 one podman rm one

# --- a pod, and a build ---
podman pod create --name pod --network none >/dev/null
podman run --detach --pod pod --name member $image sleep 1000 >/dev/null
check 'a member of a pod' 0 "*/user.slice/user-libpod_pod_*.slice/libpod-*.scope" group member
check 'removal of the pod' 0 '?*' podman pod rm --force --time 0 pod
mkdir "$work/context"
printf 'FROM %s\nRUN echo built >/built\nCMD ["cat", "/built"]\n' $image >"$work/context/Containerfile"
check 'build' 0 '*COMMIT*' podman build --isolation oci --network none --tag localhost/built:1 "$work/context"
check 'what was built' 0 built run localhost/built:1

settle sh -c '[ -z "$(systemctl --user list-units --all --plain --no-legend --type=scope "libpod-*")" ]' || true
report 'no unit is left' "$(user_units)"
podman rmi --all --force >/dev/null
echo "finished: $failures failed"
exit $((failures > 0))
