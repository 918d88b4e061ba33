#!/usr/bin/env bash
# containerd with the runtime as kubelet uses it, for pods of a RuntimeClass:
# cri.sh RUNTIME host|systemd
set -euo pipefail
# shellcheck source=client.sh
. "$(dirname "$0")/client.sh"
enter "$@"

image=localhost/bb:1
systemd=false
[ "$view" != systemd ] || systemd=true
# restrict_oom_score_adj: kubelet's value for a pod needs CAP_SYS_RESOURCE.
cat >"$work/config.toml" <<END
version = 2
root = "$work/root"
state = "$work/state"
[grpc]
address = "$work/containerd.sock"
[ttrpc]
address = "$work/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
path = "$work/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "tested"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested.options]
BinaryName = "$runtime"
SystemdCgroup = $systemd
END
containerd --config "$work/config.toml" >"$work/containerd.log" 2>&1 &
daemon=$!
protoc --proto_path "$scripts" --descriptor_set_out "$work/cri.pb" cri.proto

cri() { /usr/bin/python3 "$scripts/cri.py" "$work/containerd.sock" "$work/cri.pb" "$@"; }
settle cri Status '{}' >/dev/null || { grep cri "$work/containerd.log"; exit 1; }
image_archive "$work/pause.tar" localhost/pause:1 '["sleep", "100000"]'
image_archive "$work/image.tar" $image '["/bin/sh"]'
client ctr --address "$work/containerd.sock" --namespace k8s.io
for archive in pause image; do ctr image import "$work/$archive.tar" >/dev/null; done

# Without a network plugin pods have the network of the node. The members see the same processes.
namespaces='{"network": "NODE", "pid": "POD", "ipc": "POD"}'
pod='{"metadata": {"name": "pod", "uid": "1", "namespace": "default"}, "log_directory": "'$work/logs'",
    "linux": {"cgroup_parent": "/'${parent#/}'", "security_context": {"namespace_options": '$namespaces'}}}'
mkdir "$work/logs"
check 'a pod of an unknown class' 1 '*no runtime for "unknown"*' \
    cri RunPodSandbox "{\"config\": $pod, \"runtime_handler\": \"unknown\"}"
sandbox=$(cri RunPodSandbox "{\"config\": $pod, \"runtime_handler\": \"tested\"}")
pid=$(ctr task ls | awk -v id="$sandbox" '$1 == id { print $2 }')
check 'its sandbox runs' 0 'sleep 100000' sh -c "tr '\\0' ' ' <'/proc/$pid/cmdline' | sed 's/ *$//'"

# create NAME COMMAND RESOURCES SECURITY: a container in the pod, whose id it prints.
create() {
    cri CreateContainer '{"pod_sandbox_id": "'"$sandbox"'", "sandbox_config": '"$pod"', "config": {
        "metadata": {"name": "'"$1"'"}, "image": {"image": "'$image'"}, "command": '"$2"',
        "mounts": [{"container_path": "/volume", "host_path": "'"$work"'/volume", "readonly": true}],
        "log_path": "'"$1"'.log", "linux": {"resources": '"$3"', "security_context":
            {"namespace_options": '"$namespaces"', '"$4"'}}}}'
}
on() { cri "$1" "{\"container_id\": \"$2\"${3:-}}"; }
inside() {
    local words
    words=$(printf '"%s", ' "${@:2}")
    on ExecSync "$1" ", \"cmd\": [${words%, }], \"timeout\": 10"
}
# The status of a container, once it has ended.
has_ended() { [[ $(on ContainerStatus "$1") == CONTAINER_EXITED* ]]; }
ended() { settle has_ended "$1" && on ContainerStatus "$1"; }
mkdir "$work/volume"
echo outside >"$work/volume/file"

profile='"seccomp": {"profile_type": "RuntimeDefault"}'
one=$(create one '["sh", "-c", "echo to the log; trap \"exit 9\" TERM; while :; do sleep 0.1; done"]' \
    '{}' "$profile, \"no_new_privs\": true")
check 'created' 0 'CONTAINER_CREATED *' on ContainerStatus "$one"
on StartContainer "$one"
check 'running' 0 'CONTAINER_RUNNING *' on ContainerStatus "$one"
check 'its log' 0 '*stdout F to the log' settle cat "$work/logs/one.log"
check 'exec' 0 'outside' inside "$one" cat /volume/file
check 'exec: exit status' 5 '' inside "$one" sh -c 'exit 5'
check 'exec: no such program' 1 '*executable file not found in $PATH*' inside "$one" nosuchprogram
check 'a read-only mount' 1 '*ead-only file system*' inside "$one" touch /volume/new
check 'the default profile' 0 'Seccomp:?2*' inside "$one" grep Seccomp: /proc/self/status
check 'it refuses a namespace' 1 '*not permitted*' inside "$one" unshare -U true
check 'no new privileges' 0 'NoNewPrivs:?1' inside "$one" grep NoNewPrivs /proc/self/status

two=$(create two '["sleep", "1000"]' '{}' '"run_as_user": {"value": 1000}, "readonly_rootfs": true')
on StartContainer "$two"
check 'the user' 0 'uid=1000(user)*' inside "$two" id
check 'read-only root' 1 '*ead-only file system*' inside "$two" touch /tmp/new
check 'members of the pod see each other' 0 '*sleep 100000*sleep 1000*' inside "$two" ps
check 'and share System V objects' 0 '' \
    test "$(inside "$one" readlink /proc/self/ns/ipc)" = "$(inside "$two" readlink /proc/self/ns/ipc)"

missing=$(create missing '["nosuchprogram"]' '{}' "$profile")
check 'no such program' 1 '*executable file not found in $PATH*' on StartContainer "$missing"
check 'it is reported' 0 '*StartError' on ContainerStatus "$missing"

if has_controllers; then
    limited=$(create limited '["sleep", "1000"]' \
        '{"memory_limit_in_bytes": 67108864, "cpu_shares": 512, "cpu_quota": 50000, "cpu_period": 100000}' "$profile")
    on StartContainer "$limited"
    check 'memory' 0 67108864 limit memory "$(cgroup_path "$limited" cri-containerd)" memory.limit_in_bytes memory.max
    check 'shares of the processor' 0 '@(512|20|59)' limit cpu "$(cgroup_path "$limited" cri-containerd)" cpu.shares cpu.weight
    check 'update' 0 '' on UpdateContainerResources "$limited" ', "linux": {"memory_limit_in_bytes": 100663296}'
    check 'updated memory' 0 100663296 limit memory "$(cgroup_path "$limited" cri-containerd)" memory.limit_in_bytes memory.max
    greedy=$(create greedy '["tail", "/dev/zero"]' '{"memory_limit_in_bytes": 16777216}' "$profile")
    on StartContainer "$greedy"
    check 'end by memory' 0 'CONTAINER_EXITED 137 OOMKilled' ended "$greedy"
fi

check 'stop' 0 '' on StopContainer "$one" ', "timeout": 10'
check 'its exit status' 0 'CONTAINER_EXITED 9 Error' on ContainerStatus "$one"
# Of process 1 of a namespace, which this is not, the signal would end nothing.
check 'stop of one that does not handle the signal' 0 '' on StopContainer "$two" ', "timeout": 1'
check 'ended by it' 0 'CONTAINER_EXITED 143 Error' on ContainerStatus "$two"
check 'removal' 0 '' on RemoveContainer "$two"
check 'stop of the pod' 0 '' cri StopPodSandbox "{\"pod_sandbox_id\": \"$sandbox\"}"
check 'removal of the pod' 0 '' cri RemovePodSandbox "{\"pod_sandbox_id\": \"$sandbox\"}"
check 'no container is left' 0 '' ctr container ls --quiet

kill "$daemon"
wait "$daemon" || true
finish "$name" /run/containerd/runc/k8s.io "/run/$(basename "$runtime")"
