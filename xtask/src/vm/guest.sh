#!/run/lb-vm/busybox sh
# The first process of the virtual machine once the host's files are its root: mounts what a kernel offers, runs the
# command on the console, says on the second serial line how it ended, and ends the machine.
busybox=/run/lb-vm/busybox
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux
. /run/lb-vm/settings
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sysfs /sys
$busybox mount -t devtmpfs devtmpfs /dev
$busybox mkdir -p /dev/pts /dev/shm
$busybox mount -t devpts devpts /dev/pts
$busybox mount -t tmpfs shm /dev/shm
$busybox mount -t bpf bpf /sys/fs/bpf
$busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
$busybox mount -t tracefs tracefs /sys/kernel/tracing
# The host's modules are another kernel's.
$busybox mkdir -p /lib/modules
[ -e "/lib/modules/$(uname -r)" ] || $busybox ln -s "$MODULES/$(uname -r)" /lib/modules/
echo 1 > /proc/sys/net/core/bpf_jit_enable
$busybox ip link set lo up
ulimit -l unlimited
if [ "$INTERACTIVE" = 1 ]; then
    $busybox setsid -c /bin/sh /run/lb-vm/command < /dev/ttyS0 > /dev/ttyS0 2>&1
else
    # What a program prints arrives as it was printed.
    $busybox stty -F /dev/ttyS0 -opost
    $busybox setsid -c /bin/sh /run/lb-vm/command < /dev/null > /dev/ttyS0 2>&1
fi
status=$?
# Returns when the console has sent all.
$busybox stty -F /dev/ttyS0 opost
# A line that is closed has sent all, too.
echo $status > /dev/ttyS1
# At once and without a word.
echo b > /proc/sysrq-trigger
