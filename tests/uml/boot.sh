#!/bin/sh
# The first process of the guest: it mounts what a machine has, gives cgroup v2 its controllers, and
# runs the checks as a child. The host's files are all there, read-only.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# A cgroup with processes cannot give controllers to others.
mkdir /sys/fs/cgroup/boot
echo 1 >/sys/fs/cgroup/boot/cgroup.procs
echo +cpu +io +memory +pids >/sys/fs/cgroup/cgroup.subtree_control
for argument in $(cat /proc/cmdline); do
    case $argument in
        pidone.checks=*) checks=${argument#*=} ;;
        pidone.program=*) program=${argument#*=} ;;
    esac
done
sh "$checks" "$program"
echo "guest: finished"
echo o >/proc/sysrq-trigger
sleep 5
