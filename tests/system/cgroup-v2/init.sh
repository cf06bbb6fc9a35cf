#!/bin/busybox sh
# First process of the machine that run.sh boots: mounts, cgroup v2 with its controllers, modules; then the command.
# The root is the host's own file system, so everything that is written to goes on a tmpfs.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
for word in $(cat /proc/cmdline); do
    case $word in wherry_run=*) dir=${word#wherry_run=} ;; esac
done
exec >"$dir/output" 2>&1
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
# Not /tmp: the checkout, and so what is run here, may lie in there.
for place in /mnt /media /srv; do
    case $dir/ in "$place"/*) continue ;; esac
    mount -t tmpfs -o size=1g tmpfs $place && break
done
export TMPDIR=$place
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# Controllers can be handed down only by a cgroup without processes of its own.
mkdir /sys/fs/cgroup/init
echo $$ >/sys/fs/cgroup/init/cgroup.procs
for controller in cpu memory pids io; do
    echo +$controller >/sys/fs/cgroup/cgroup.subtree_control
done

modules=/usr/lib/uml/modules/$(uname -r)
insert() {
    line=$(grep "/$1\.ko:" "$modules/modules.dep") || return 0
    own=${line%%:*}
    wanted=
    for dependency in ${line#*:}; do wanted="$dependency $wanted"; done
    for module in $wanted $own; do
        name=$(basename "$module" .ko | tr - _)
        grep -q "^$name " /proc/modules || busybox insmod "$modules/$module"
    done
}
for module in overlay veth bridge; do insert $module; done
ip link set lo up

cd "$dir" || exit 1
sh ./command
echo $? >"$dir/status"
sync
busybox poweroff -f
