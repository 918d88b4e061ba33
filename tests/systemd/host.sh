#!/bin/sh
# A host with systemd, in namespaces of this kernel: host.sh NAME SHARE PROGRAMS [ROOT].
#
# It has the files of ROOT, or this machine's, in an overlay that is thrown away, and cgroup v2
# alone, below a cgroup named NAME. The directory SHARE is the same in it, PROGRAMS as well but
# read-only. It lives until standard input ends, so that nothing is left of it however the caller
# ends. SHARE/pid is the process id of its systemd; SHARE/ready exists once it has started
# everything.
set -eu
name=$1 share=$2 programs=$3 root=${4:-/}
here=$(dirname "$(readlink -f "$0")")
unified=/sys/fs/cgroup/unified
[ -d "$unified" ] || unified=/sys/fs/cgroup
group=$unified/$name
mkdir "$group"
# Where cgroup v2 has these controllers and gives them to nobody yet.
for controller in cpu io memory pids cpuset; do
    if grep -qw "$controller" "$unified/cgroup.controllers" &&
        ! grep -qw "$controller" "$group/cgroup.controllers"; then
        echo "+$controller" >"$unified/cgroup.subtree_control"
    fi
done
# The cgroup is the root of the cgroup namespace. It has no process but systemd, which leaves it:
# only then can controllers be enabled for those below.
unshare --mount --propagation private --uts --ipc --net --pid --fork --kill-child -- \
    sh -c 'echo 0 >"$1/cgroup.procs"; shift; exec unshare --cgroup -- "$@"' - "$group" \
    sh "$here/inside.sh" "$share" "$programs" "$root" >"$share/console" 2>&1 </dev/null &
outer=$!
# The child of unshare is the host's process 1.
until pid=$(tr -d ' ' <"/proc/$outer/task/$outer/children") && [ -n "$pid" ]; do
    kill -0 "$outer"
    sleep 0.01
done
echo "$pid" >"$share/pid"
cat >/dev/null || true
# A shell reports that a child was killed.
exec 2>/dev/null
echo 1 >"$group/cgroup.kill"
wait "$outer" || true
# A cgroup has processes until the last one is reaped.
until [ -z "$(find "$group" -depth -type d -exec rmdir {} \; 2>&1)" ]; do sleep 0.02; done
