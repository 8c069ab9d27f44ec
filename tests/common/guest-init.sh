#!/bin/sh
# First process of a guest. The root file system is the host's, read-only; what is written goes
# to memory and is gone with the guest. Appended by the test: directories to show, the command.

end() {
    # Without a program for it, the kernel itself; the test kills what is left anyway.
    halt -f 2>/dev/null || echo o >/proc/sysrq-trigger
}

fail() {
    echo "guest-init: $*"
    end
}

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp
mount -t proc proc /proc || fail "no /proc"
mount -t sysfs sysfs /sys || fail "no /sys"
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev || fail "no /dev"
mount -t tmpfs -o mode=755 tmpfs /run || fail "no /run"
mount -t tmpfs -o mode=1777 tmpfs /tmp || fail "no /tmp"
stty raw -echo

# The modules are not where modprobe looks for them, and not where the kernel's own requests do.
mkdir -p /run/modules/lib /run/lock
ln -s /usr/lib/uml/modules /run/modules/lib/modules
printf '#!/bin/sh\nexec modprobe -q -d /run/modules "$@"\n' >/run/modprobe
chmod +x /run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe
ip link set lo up
ulimit -n 65536
