#!/usr/bin/env bash
# buildah with the runtime: buildah.sh RUNTIME host|v2
set -euo pipefail
# shellcheck source=client.sh
. "$(dirname "$0")/client.sh"
enter "$@"

image=localhost/bb:1
# Limits that need no CAP_SYS_RESOURCE.
cat >"$work/containers.conf" <<END
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[network]
network_backend = "netavark"
END
export CONTAINERS_CONF=$work/containers.conf
export BUILDAH_RUNTIME=$runtime BUILDAH_ISOLATION=oci
client buildah --root "$work/store" --runroot "$work/run" --storage-driver overlay

build() { buildah build --network none --cgroup-parent "/$name-build" "$@" "$work/context"; }

# --- an image from nothing ---
scratch=$(buildah from --cgroup-parent "/$name" scratch)
buildah add --quiet "$scratch" "$work/rootfs.tar" / >/dev/null
buildah config --env PATH=/bin --cmd /bin/sh "$scratch"
check 'commit of the first layer' 0 '?*' buildah commit --quiet "$scratch" $image

# --- run ---
container=$(buildah from --cgroup-parent "/$name" $image)
run() { buildah run --network none "$@"; }
check 'output' 0 hi run "$container" -- echo hi
check 'standard input' 0 typed sh -c 'echo typed | "$@"' - buildah run --network none "$container" -- cat
check 'exit status' 3 '*exit status 3*' run "$container" -- sh -c 'exit 3'
check 'no such program' 1 '*executable file not found in $PATH*' run "$container" -- nosuchprogram
check 'a file that is no program' 1 '*permission denied*' run "$container" -- /etc/plain
check 'no terminal' 1 '*' run "$container" -- test -t 0
check 'a terminal' 0 '*yes*' on_terminal \
    buildah run --network none --terminal "$container" -- sh -c 'test -t 0 && test -t 1 && echo yes'
check 'the user' 0 1000 run --user 1000 "$container" -- id -u
check 'host name' 0 box run --hostname box "$container" -- hostname
check 'a dropped capability' 1 '*not permitted*' run --cap-drop CAP_CHOWN "$container" -- chown 1000 /etc/plain
check 'control: the capability' 0 '' run "$container" -- chown 1000 /etc/plain
check 'the default profile' 0 'Seccomp:?2' run "$container" -- grep Seccomp: /proc/self/status
mkdir "$work/volume"
check 'a bind mount' 0 '' run --volume "$work/volume:/volume" "$container" -- touch /volume/new
check 'what was written there' 0 '' test -e "$work/volume/new"
check 'a read-only bind mount' 1 '*ead-only file system*' \
    run --volume "$work/volume:/volume:ro" "$container" -- touch /volume/newer
check 'a tmpfs' 0 '*tmpfs /scratch tmpfs*' \
    run --mount type=tmpfs,destination=/scratch "$container" -- grep /scratch /proc/mounts
check 'a change of the files' 0 '' run "$container" -- sh -c 'echo changed >/changed'
buildah config --workingdir /tmp --env A=b --user user "$container"
check 'what was configured' 0 '/tmp b 1000' run "$container" -- sh -c 'echo $PWD $A $(id -u)'
check 'commit' 0 '?*' buildah commit --quiet "$container" localhost/changed:1
changed=$(buildah from --cgroup-parent "/$name" localhost/changed:1)
check 'what was committed' 0 'changed b 1000' run "$changed" -- sh -c 'echo $(cat /changed) $A $(id -u)'

# --- build ---
mkdir "$work/context"
echo copied >"$work/context/file"
cat >"$work/context/Containerfile" <<END
FROM $image
COPY file /file
RUN cat /file >/built && id -u >>/built
RUN ["chown", "1000", "/built"]
USER user
WORKDIR /tmp
RUN id -u >by-user
END
check 'build' 0 '*COMMIT localhost/built:1*' build --tag localhost/built:1
built=$(buildah from --cgroup-parent "/$name" localhost/built:1)
check 'what was built' 0 $'copied\n0\n1000' run "$built" -- cat /built /tmp/by-user
check 'its owner' 0 1000 run "$built" -- stat -c %u /built
cat >"$work/context/Containerfile" <<END
FROM $image
RUN exit 7
END
check 'a step that fails' 7 '*exit status 7*' build --tag localhost/failed:1
check 'makes no image' 125 '*' buildah inspect --type image localhost/failed:1

buildah rm --all >/dev/null
check 'no container is left' 0 '' buildah containers --quiet
! mountpoint -q "$work/store/overlay" || umount "$work/store/overlay"
finish "$name" "/run/$(basename "$runtime")"
