#!/usr/bin/env bash
# podman of an ordinary user with the runtime: podman-rootless.sh RUNTIME host|v2
set -euo pipefail
# shellcheck source=client.sh
. "$(dirname "$0")/client.sh"
enter "$@"

# A user with a range of ids, whom nobody else sees.
user=4000
for file in passwd group; do cp "/etc/$file" "$work/$file"; done
echo "tester:x:$user:$user::$work/home:/bin/sh" >>"$work/passwd"
echo "tester:x:$user:" >>"$work/group"
echo 'tester:300000:65536' >"$work/ids"
for file in passwd group; do mount --bind "$work/$file" "/etc/$file"; done
for file in subuid subgid; do
    [ -e "/etc/$file" ] || { echo "no /etc/$file"; exit 1; }
    mount --bind "$work/ids" "/etc/$file"
done
mkdir -p "$work"/{home,user}
chown $user:$user "$work"/{home,user}
chmod 755 "$work"
chmod 1777 "$work/tmp"
cp "$runtime" "$work/bin/runtime"
cat >"$work/containers.conf" <<END
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
pids_limit = 0
[engine]
runtime = "tested"
cgroup_manager = "cgroupfs"
[engine.runtimes]
tested = ["$work/bin/runtime"]
[network]
network_backend = "netavark"
END
export CONTAINERS_CONF=$work/containers.conf HOME=$work/home XDG_RUNTIME_DIR=$work/user
cd "$HOME"
image=localhost/bb:1
client podman --storage-driver vfs --events-backend file
# podman itself, as the user with these groups.
podman() { setpriv --reuid $user --regid $user --groups "${groups:-$user}" "$work/bin/podman" "$@"; }
run() { podman run --rm --network none "$@"; }
podman import --change 'ENV PATH=/bin' --change 'CMD ["/bin/sh"]' "$work/rootfs.tar" $image >/dev/null 2>&1

check 'output' 0 hi run $image echo hi
check 'exit status' 3 '' run $image sh -c 'exit 3'
check 'the network of the container' 0 lo run $image ls /sys/class/net
check 'a sysfs' 0 '*sysfs ro,*' run $image grep ' /sys ' /proc/mounts
check 'the network of the host' 0 "$(ls /sys/class/net)" \
    podman run --rm --network host $image ls /sys/class/net
check 'a user opens its standard streams' 0 logged run --user 1000 $image sh -c 'echo logged >/dev/stdout'
check 'a terminal' 0 '' run --tty $image test -t 0
check 'the user keeps the id' 0 $user run --userns keep-id $image id -u
groups=$user,5,6 check 'groups of the caller' 0 '*65534*' run --group-add keep-groups $image id -G
check 'control: no groups' 0 0 run $image id -G
check 'a privileged one' 0 '*sysfs rw,*' run --privileged $image grep ' /sys ' /proc/mounts

podman run --detach --name one --network none $image sleep 1000 >/dev/null
check 'exec' 0 inside podman exec one echo inside
check 'exec: a user opens its standard streams' 0 logged \
    podman exec --user 1000 one sh -c 'echo logged >/dev/stdout'
check 'exec: a terminal' 0 '' podman exec --tty one test -t 0
check 'removal' 0 one podman rm --force --time 0 one

mkdir context
printf 'FROM %s\nRUN grep -c : /proc/net/dev >/built\n' $image >context/Containerfile
chown -R $user:$user context
for isolation in oci rootless; do
    check "build: $isolation" 0 '*COMMIT*' podman build --isolation $isolation --network none \
        --no-cache --tag localhost/built:1 context
    check "its network has one interface: $isolation" 0 1 run localhost/built:1 cat /built
done

# As in a container without the right to write to it.
mount -o remount,bind,ro /sys
podman system migrate >/dev/null 2>&1
check 'a privileged one where /sys is read-only' 0 '*sysfs ro,*' \
    run --privileged $image grep ' /sys ' /proc/mounts
check 'also with the network of the host' 0 '*sysfs ro,*' \
    podman run --rm --network host --privileged $image grep ' /sys ' /proc/mounts

# Its own process keeps the user namespace.
podman system migrate >/dev/null 2>&1
for mount in $(awk -v work="$work/" 'index($5, work) { print $5 }' /proc/self/mountinfo); do
    umount --lazy "$mount"
done
for file in passwd group subuid subgid; do umount "/etc/$file"; done
finish "[0-9a-f]{64}|conmon|$name" "$work/user/$(basename "$runtime")"
