#!/bin/busybox sh
# The first process of the guest that `nvme` starts: loads the driver, uses gaur on the namespace, powers off.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do
    case $module in
    */nvme.ko) insmod "$module" poll_queues=1 ;;
    *) insmod "$module" ;;
    esac
done < /modules/order
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/nvme0n1 ] && break; sleep 1; done

failed=0
# expect STATUS COMMAND…
expect() {
    want=$1
    shift
    echo "guest: $*"
    # Not a terminal, so that no progress is drawn.
    "$@" 2> /tmp/errors
    got=$?
    cat /tmp/errors
    if [ $got -ne "$want" ]; then
        echo "guest: exit $got, not $want"
        failed=1
    fi
}
dev=/dev/nvme0n1
uname -r
expect 0 gaur device $dev
expect 0 gaur format $dev
expect 2 gaur format $dev
expect 0 gaur put $dev greeting hello
expect 0 gaur get $dev greeting
expect 0 gaur run /quickstart.toml --device $dev --fresh --out /tmp/run \
    --set load.records=20000 --set run.seconds=5 --set store.cache=64MiB
expect 0 gaur stat $dev
expect 0 gaur check $dev
expect 0 gaur run /quickstart.toml --device $dev --fresh --out /tmp/run2 --set store.driver=psync \
    --set store.discard=true --set load.records=20000 --set run.seconds=3 --set store.cache=64MiB
expect 0 gaur trim $dev
expect 0 gaur device $dev --bench --seconds 5
expect 0 gaur check $dev
[ $failed -eq 0 ] && echo "guest: all fine"
poweroff -f
