#!/bin/sh
# In a guest: a systemd of its own that has nothing but the shipped unit, and what is asked of it in
# ask.sh. The machine's own files stay as they are: a copy in memory takes what is written.
#   boot.sh PROGRAM TREE
set -eu
program=$1 tree=$2

mkdir /run/memory
mount -t tmpfs tmpfs /run/memory
cp -a /etc /run/memory/etc
mkdir -p /run/memory/var/lib /run/memory/var/log /run/memory/var/tmp /run/memory/var/cache /run/memory/sbin
mount --bind /run/memory/etc /etc
mount --bind /run/memory/var /var
mount --bind /run/memory/sbin /usr/local/sbin
rm -rf /etc/systemd/system/*.wants /etc/pointsman
: >/etc/fstab
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
modprobe -q -d /run/modules ip_vs

cp "$tree/tests/unit/ask.sh" /run/ask.sh
# The tree as it is when the program has been built.
mkdir -p /run/tree/target/release
ln -s "$tree/contrib" /run/tree/contrib
cp "$program" /run/tree/target/release/pointsman
cat >/etc/systemd/system/asked.target <<END
[Unit]
DefaultDependencies=no
Requires=asked.service
END
cat >/etc/systemd/system/asked.service <<END
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh /run/ask.sh
ExecStopPost=/bin/sh -c 'echo \$EXIT_STATUS >/run/asked; systemctl exit'
StandardOutput=file:/run/said
StandardError=file:/run/said
TimeoutStartSec=270
END
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null || true
container=guest unshare --fork --pid --mount-proc --mount --propagation private -- \
    /lib/systemd/systemd --unit=asked.target --show-status=no --log-level=err --log-target=console \
    >/dev/null 2>&1 || true
cat /run/said
exit "$(cat /run/asked)"
