# Shared by the tests of real clients, each of which is CLIENT.sh RUNTIME host|v2|systemd
#
# The client runs in new mount, network and process namespaces, with a new /run that holds
# all its files: nothing of it outlives the test, and the machine's own client is not seen. View
# `host` is the machine's cgroups as they are, `v2` has nothing but a cgroup2 file system. View
# `systemd` is for a host of `../systemd/host.sh`, which is thrown away as a whole: the client asks
# for the systemd cgroup driver, as clients do by default.
#
# Sets $runtime, $view; $work, a directory; $name, that of cgroups and of what else needs one;
# $manager, that of cgroups, and $parent, the one for containers; $rootfs, the files of a busybox
# image; $scripts, the directory of the scripts.

shopt -s extglob
runtime=$(realpath "$1")
view=$2
work=/run/client
manager=cgroupfs
scripts=$(realpath "$(dirname "$0")")
name=${PIDONE_CLIENT_NAME:-pidone-client-$$}
parent=/$name
if [ "$view" = systemd ]; then
    # A dash in the name of a slice nests it.
    name=${PIDONE_CLIENT_NAME:-pidoneclient$$}
    parent=$name.slice
    manager=systemd
    work=/run/$name
fi
rootfs=$work/rootfs
failures=0

# --- outside: namespaces, and an end for everything ---

# Runs the calling script in new namespaces, and returns there only.
enter() {
    if [ -n "${PIDONE_CLIENT_NAME:-}" ]; then
        prepare
        return
    fi
    export PIDONE_CLIENT_NAME=$name
    # Its end is the end of all processes in the namespace. The manager of units must see the
    # processes, and its host ends anyway.
    local processes=(--pid --mount-proc)
    [ "$view" != systemd ] || processes=()
    unshare --net --mount --propagation private --fork --kill-child "${processes[@]}" \
        bash "$0" "$runtime" "$view" &
    local inside=$! status=0
    trap 'kill -KILL $inside' INT TERM
    wait "$inside" || status=$?
    # Again, for `wait` also ends with a signal.
    wait "$inside" 2>/dev/null || true
    trap - INT TERM
    clear_cgroups || status=1
    exit "$status"
}

# The cgroups of the test, those inside others first.
cgroups() {
    find /sys/fs/cgroup -depth -type d -path "*/$name*" 2>/dev/null
}

# Removes the cgroups of the test, and fails if there was any.
clear_cgroups() {
    local cgroup pid left
    left=$(cgroups)
    [ -n "$left" ] || return 0
    report 'no cgroup is left in the end' "$left"
    # Of the frozen, SIGKILL ends none.
    while read -r cgroup; do
        [ ! -e "$cgroup/freezer.state" ] || echo THAWED >"$cgroup/freezer.state"
        [ ! -e "$cgroup/cgroup.freeze" ] || echo 0 >"$cgroup/cgroup.freeze"
    done <<<"$left"
    while read -r cgroup; do
        while read -r pid; do kill -KILL "$pid" || true; done <"$cgroup/cgroup.procs"
        settle rmdir "$cgroup" || true
    done <<<"$left"
    return 1
}

# --- inside ---

prepare() {
    # Sockets of systemd are there.
    [ "$view" = systemd ] || mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p "$work"/{bin,tmp}
    [ ! -w /run ] || mkdir -p /run/lock
    # conmon writes a file where it was started.
    cd "$work"
    export TMPDIR=$work/tmp HOME=$work PATH=$work/bin:$PATH
    if [ "$view" = v2 ]; then
        umount --recursive /sys/fs/cgroup
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
    fi
    # Which the machine may have as well.
    [ "$view" = systemd ] || [ ! -e /sys/fs/cgroup/cgroup.controllers ] || view=v2
    # An ordinary user has the network of the host.
    [ "$(id -u)" != 0 ] || ip link set lo up
    local applet
    mkdir -p "$rootfs"/{bin,etc,tmp,proc,sys,dev,root}
    cp "$(command -v busybox)" "$rootfs/bin/busybox"
    for applet in $("$rootfs/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$rootfs/bin/$applet"
    done
    printf '%s\n' root:x:0:0:root:/root:/bin/sh user:x:1000:1000::/tmp:/bin/sh >"$rootfs/etc/passwd"
    printf '%s\n' root:x:0: user:x:1000: staff:x:50:user >"$rootfs/etc/group"
    chmod 1777 "$rootfs/tmp"
    touch "$rootfs/etc/plain"
    # What ordinary images have: a directory for root alone, and the link of systemd-resolved.
    mkdir -m 700 "$rootfs/closed"
    ln -s ../run/systemd/resolve/stub-resolv.conf "$rootfs/etc/resolv.conf"
    tar -C "$rootfs" -cf "$work/rootfs.tar" .
    remains >"$work/before"
    sort -o "$work/before" "$work/before"
}

# What a client may leave: processes other than this script, mounts, network devices, units. Not to
# be called in a subshell, which would be one of the processes.
remains() {
    local process
    for process in /proc/[0-9]*; do
        # Threads of the kernel come and go where they are seen.
        ! grep -qs '^Kthread:.*1' "$process/status" || continue
        [ "$process" = /proc/$$ ] || echo "process ${process#/proc/} $(tr '\0' ' ' <"$process/cmdline")"
    done
    awk '{ print "mount", $5 }' /proc/self/mountinfo
    find /sys/class/net -mindepth 1 -printf 'network device %f\n'
    [ "$view" != systemd ] || units
}

# The units of the manager, but for slices, which stay with it, and mounts.
units() {
    systemctl list-units --all --plain --no-legend --full --no-pager --type=scope,service,timer |
        awk '{ print "unit", $1 }'
}

# cgroup_path NAME PREFIX: the cgroup of a container below the roots of the hierarchies, where the
# client uses this name for it, and this prefix for its scope.
cgroup_path() {
    if [ "$view" = systemd ]; then echo "$parent/$2-$1.scope"; else echo "$name/$1"; fi
}

# Whether nothing remains that was not there before; writes it to `left`.
nothing_remains() {
    remains >"$work/after"
    sort -o "$work/after" "$work/after"
    comm -13 "$work/before" "$work/after" >"$work/left"
    [ ! -s "$work/left" ]
}

# client PROGRAM OPTION...: makes the program of the client one that is called with the options.
client() {
    local program
    program=$(PATH=/usr/bin:/usr/sbin:/bin:/sbin command -v "$1")
    printf '#!/bin/sh\nexec %s "$@"\n' "$(printf '%q ' "$program" "${@:2}")" >"$work/bin/$1"
    chmod +x "$work/bin/$1"
}

# Writes a profile that knows no system calls of the last years.
old_profile() {
    cat <<END
{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["openat2", "close_range", "faccessat2",
 "open_tree", "move_mount", "fsopen", "mount_setattr"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}
END
}

# hung_up CONDITION COMMAND...: runs a command on a terminal that hangs up once a condition holds.
hung_up() {
    local condition=$1 terminal
    shift
    # Its input stays silent.
    [ -e "$work/silent" ] || mkfifo "$work/silent"
    setsid script --quiet --command "$(printf '%q ' "$@")" /dev/null >/dev/null 2>&1 <>"$work/silent" &
    terminal=$!
    settle sh -c "$condition"
    kill -KILL "$terminal"
    wait "$terminal" || true
}

# image_archive FILE NAME COMMAND [USER]: the busybox image as docker saves it; the command is JSON.
image_archive() {
    local parts=$work/image layer
    mkdir -p "$parts"
    cp "$work/rootfs.tar" "$parts/layer.tar"
    layer=$(sha256sum <"$work/rootfs.tar" | cut -d ' ' -f 1)
    cat >"$parts/config.json" <<END
{"architecture": "$(dpkg --print-architecture)", "os": "linux",
 "config": {"Env": ["PATH=/bin"], "Cmd": $3, "User": "${4:-}"},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]}}
END
    echo "[{\"Config\": \"config.json\", \"RepoTags\": [\"$2\"], \"Layers\": [\"layer.tar\"]}]" \
        >"$parts/manifest.json"
    tar -C "$parts" -cf "$1" .
}

# Ends the test: the client has been stopped, and all its containers were removed. Takes a regular
# expression of the names of the client's own cgroups, which it does not remove, and the directories
# where the runtime kept its state.
finish() {
    local directory left cgroup own=$1
    for directory in "${@:2}"; do
        left=$(find "$directory" -mindepth 1 2>/dev/null || true)
        report "no state is left in $directory" "$left"
    done
    settle nothing_remains || true
    report 'nothing is left' "$(cat "$work/left")"
    while read -r cgroup; do
        [[ ! ${cgroup##*/} =~ ^($own)$ ]] || rmdir "$cgroup" 2>/dev/null || true
    done < <(cgroups)
    [ "$view" != systemd ] || systemctl stop "$name*.slice" 2>/dev/null || true
    report 'no cgroup is left' "$(cgroups)"
    echo "finished: $failures failed"
    exit $((failures > 0))
}

# Tries a command for some seconds.
settle() {
    local try
    for try in {1..100}; do
        "$@" 2>/dev/null && return
        sleep 0.1
    done
    echo "not within 10 s: $*" >&2
    return 1
}

# Reports the outcome of a check: what is wrong, or nothing.
report() {
    if [ -z "$2" ]; then
        echo "check: ok: $1"
    else
        failures=$((failures + 1))
        printf 'check: FAILED: %s\n%s\n' "$1" "$2"
    fi
}

# check TITLE STATUS PATTERN COMMAND...: the command exits with the status, and its output, both
# streams of it, matches the pattern of the shell.
check() {
    local title=$1 status=$2 pattern=$3 output actual=0
    shift 3
    output=$("$@" 2>&1 </dev/null) || actual=$?
    output=${output//$'\r'/}
    # shellcheck disable=SC2053
    if [[ $actual == $status ]] && [[ $output == $pattern ]]; then
        report "$title" ''
    else
        report "$title" "    command: $*
    status: $actual, expected $status
    output: $output
    expected: $pattern"
    fi
}

# Whether there are the controllers that limits need: the second version may have none.
has_controllers() {
    [ "$view" = host ] || grep -qw memory /sys/fs/cgroup/cgroup.controllers
}

# What the kernel has in the file of a cgroup, whose path is below the roots of the hierarchies.
#   limit CONTROLLER CGROUP FILE-OF-V1 FILE-OF-V2
limit() {
    if [ "$view" = host ]; then cat "/sys/fs/cgroup/$1/$2/$3"; else cat "/sys/fs/cgroup/$2/$4"; fi
}

# Whether the processes of a cgroup are frozen: `yes` or `no`.
frozen() {
    case $(limit freezer "$1" freezer.state cgroup.events) in
        *'frozen 1'* | FROZEN) echo yes ;;
        *) echo no ;;
    esac
}

# Runs a command on a terminal of 30 lines and 100 columns.
on_terminal() {
    script --quiet --return --command "stty rows 30 cols 100; $(printf '%q ' "$@")" /dev/null
}
