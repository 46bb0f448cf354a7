#!/bin/sh
# boot.sh MEMORY SOURCE PYTHON PROGRAMS PACKAGES: become systemd, with Holdfast installed as the units expect it.
#
# Run in new namespaces by `box.py`. What this machine has is seen through an overlay in memory, mounted on MEMORY, and
# what the kernel has for all is read-only or left out, so nothing here changes it. SOURCE is this checkout, PYTHON where
# the interpreter is installed, PROGRAMS and PACKAGES the environment's bin and site-packages.
set -eu
memory=$1 source=$2 python=$3 programs=$4 packages=$5

mount --make-rprivate /
mount -t tmpfs memory "$memory"
mkdir "$memory/upper" "$memory/work" "$memory/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$memory/upper,workdir=$memory/work" "$memory/root"
cd "$memory/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 none sys/fs/cgroup
for own in dev run tmp; do mount -t tmpfs "$own" "$own"; done
for device in null zero full random urandom tty; do
	: >"dev/$device"
	mount --bind "/dev/$device" "dev/$device"
done
ln -s /proc/self/fd dev/fd
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs shm dev/shm
rm -rf etc/systemd/system/* var/lib/holdfast
mkdir -p etc/systemd/system etc/systemd/system.conf.d etc/holdfast usr/lib/holdfast/bin usr/lib/holdfast/packages \
	usr/lib/holdfast/source usr/lib/holdfast/python usr/lib/sysusers.d usr/lib/tmpfiles.d
: >etc/machine-id

# The interpreter, its environment and the checkout may lie where units see nothing (ProtectHome, PrivateTmp).
home=/usr/lib/holdfast
mount --rbind "$python" usr/lib/holdfast/python
mount --rbind "$source" usr/lib/holdfast/source
mount --rbind "$packages" usr/lib/holdfast/packages
ln -s "$home/python/bin/python3" usr/lib/holdfast/bin/python
echo "home = $home/python/bin" >usr/lib/holdfast/pyvenv.cfg
version=$("$programs/python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
mkdir -p "usr/lib/holdfast/lib/$version/site-packages"
printf '%s\n' "$home/source" "$home/packages" >"usr/lib/holdfast/lib/$version/site-packages/holdfast.pth"
for program in holdfast holdfast-compile holdfast-runtime; do
	sed "1s,.*,#!$home/bin/python," "$programs/$program" >"usr/lib/holdfast/bin/$program"
	chmod 755 "usr/lib/holdfast/bin/$program"
done

units=$source/systemd
install -m 755 "$units/holdfast-inbox" usr/lib/holdfast/bin/
cp "$units"/*.service "$units"/*.path "$units"/*.timer "$units"/*.slice usr/lib/systemd/system/
cp "$units/holdfast.sysusers" usr/lib/sysusers.d/holdfast.conf
cp "$units/holdfast.tmpfiles" usr/lib/tmpfiles.d/holdfast.conf
cp "$source/packaging/holdfast.toml" etc/holdfast/

# A shared library of the interpreter is looked for where it was built, and no byte code is written.
cat >etc/systemd/system.conf.d/box.conf <<END
[Manager]
DefaultEnvironment=LD_LIBRARY_PATH=$home/python/lib PYTHONDONTWRITEBYTECODE=1
END
ip link set lo up
mkdir machine
pivot_root . machine
umount -l /machine
mount --make-rshared / # else credentials, which are mounted for each unit, do not reach it
export container=holdfast
exec /lib/systemd/systemd --system --unit=basic.target --log-target=journal
