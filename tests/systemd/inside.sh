# The inside of host.sh: the file system, the few units that the host starts, and systemd.
set -eu
share=$1 programs=$2 lower=$3
# Only if this script fails: systemd takes its place in the end.
trap 'touch "$share/failed"' EXIT
units=$(dirname "$(readlink -f "$0")")/units
base=$share/base
mkdir "$base"
mount -t tmpfs -o mode=755 tmpfs "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$base/upper,workdir=$base/work" overlay "$base/root"
root=$base/root
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
node() { mknod -m 666 "$root/dev/$1" c "$2" "$3"; }
node null 1 3
node zero 1 5
node full 1 7
node random 1 8
node urandom 1 9
node tty 5 0
node kmsg 1 11
node fuse 10 229
mkdir "$root/dev/net"
node net/tun 10 200
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t mqueue mqueue "$root/dev/mqueue"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
# Only what `tests.target` names is started: nothing of the machine's own services.
for directory in system user; do
    rm -rf "$root/etc/systemd/$directory"
    cp -r "$units/$directory" "$root/etc/systemd/$directory"
done
rm -rf "$root"/lib/systemd/*-generators "$root"/etc/systemd/*-generators \
    "$root"/lib/systemd/system/*.wants
: >"$root/etc/fstab"
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
echo systemd >"$root/etc/hostname"
# The ordinary user, with ranges of ids.
echo 'person:x:2000:2000::/home/person:/bin/sh' >>"$root/etc/passwd"
echo 'person:x:2000:' >>"$root/etc/group"
for file in subuid subgid; do echo person:300000:65536 >"$root/etc/$file"; done
mkdir -p "$root/home/person"
# Overlays of the user's images: an overlay above others of an overlay is refused.
mount -t tmpfs tmpfs "$root/home/person"
chown 2000:2000 "$root/home/person"
for directory in "$share" "$programs"; do
    mkdir -p "$root$directory"
    mount --bind "$directory" "$root$directory"
done
mount -o remount,bind,ro "$root$programs"
ln -s "$share" "$root/run/share"
ip link set lo up
cd "$root"
mkdir -p oldroot
busybox pivot_root . oldroot
umount -l /oldroot
exec env -i container=oci PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd \
    --unit=tests.target --log-target=console --show-status=0
