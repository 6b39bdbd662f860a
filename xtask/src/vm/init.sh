#!/busybox sh
# The first process of the virtual machine, in its initramfs: makes the host's files the root, with changes kept in
# memory. If it fails, the kernel panics and the machine ends.
set -e
/busybox mkdir -p /proc /dev /lower /changes /newroot
/busybox mount -t proc proc /proc
/busybox mount -t devtmpfs devtmpfs /dev
while read -r module; do
    /busybox insmod "/modules/$module"
done < /modules/order
/busybox mount -t virtiofs -o ro host /lower
/busybox mount -t tmpfs changes /changes
/busybox mkdir /changes/upper /changes/work
/busybox mount -t overlay -o lowerdir=/lower,upperdir=/changes/upper,workdir=/changes/work host /newroot
/busybox mount -t tmpfs run /newroot/run
/busybox mkdir /newroot/run/lb-vm
/busybox cp /busybox /guest /command /settings /newroot/run/lb-vm/
/busybox umount /dev
/busybox umount /proc
exec /busybox switch_root /newroot /run/lb-vm/guest
