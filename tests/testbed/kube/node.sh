#!/bin/bash
# Node $1: the first process of its own pid, network, mount and uts namespaces, started by control.sh: containerd, kubelet, kube-proxy.
set -uo pipefail
i=$1 N=$RUN/node$1 L=$RUN/node$1/log PIDS=$RUN/node$1/pids
hostname "node$i"
# kubelet and runc need mounts that are shared below here; none of them reaches the machine.
mount --make-rslave / && mount --make-rshared /
# What pods write to these by hostPath stays in the node. Other directories are the machine's own.
for d in etc opt srv var/lib; do
  mkdir -p "$N/overlay/$d"/{upper,work}
  mount -t overlay overlay -o "lowerdir=/$d,upperdir=$N/overlay/$d/upper,workdir=$N/overlay/$d/work" "/$d"
done
mount -t tmpfs -o mode=755 tmpfs /run; mkdir -p /run/netns /run/lock /run/containerd
mkdir -p /var/lib/kubelet /var/lib/cni
mount --bind "$N/kubelet" /var/lib/kubelet; mount --make-shared /var/lib/kubelet
mount --bind "$N/cni-state" /var/lib/cni
mount --bind "$N/varlog" /var/log; mkdir -p /var/log/pods /var/log/containers

# show PATH VALUE: what kubelet would set for the whole machine, or what tells one machine from another, comes from a file.
show() { local f; f=$N/sys/$(echo "$1" | tr / _); echo "$2" > "$f"; mount --bind "$f" "$1"; }
for kv in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  show "/proc/sys/${kv%%=*}" "${kv##*=}"; done
show /proc/sys/kernel/random/boot_id "$(cat /proc/sys/kernel/random/uuid)"
[ -s "$N/machine-id" ] || tr -d - < /proc/sys/kernel/random/uuid > "$N/machine-id"; cp "$N/machine-id" /etc/machine-id
# Pods on the node's network get this file: a JVM looks up its own name, and without it waits for the DNS each time.
printf '127.0.0.1\tlocalhost\n' > /etc/hosts
for j in $(seq "$NODES"); do printf '10.90.0.%s\tnode%s\n' "$j" "$j" >> /etc/hosts; done

until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done # from control.sh
ip link set lo up
ip addr add "10.90.0.$i/24" dev eth0 && ip link set eth0 up && ip route add default via "$CONTROL"
for j in $(seq "$NODES"); do [ "$j" = "$i" ] || ip route add "10.91.$j.0/24" via "10.90.0.$j"; done
for kv in ip_forward=1 conf/all/rp_filter=0 conf/default/rp_filter=0; do echo "${kv##*=}" > "/proc/sys/net/ipv4/${kv%%=*}"; done

keep containerd containerd -c "$N/containerd.toml"
until ctr version >/dev/null 2>&1; do sleep 0.1; done
ready
keep kubelet "$BIN/kubelet" --config="$N/kubelet.yaml" --kubeconfig="$N/kubelet.kubeconfig" --hostname-override="node$i" --node-ip="10.90.0.$i" \
  --root-dir=/var/lib/kubelet --v=1
keep proxy "$BIN/kube-proxy" --kubeconfig="$RUN/proxy.kubeconfig" --hostname-override="node$i" --cluster-cidr=10.91.0.0/16 --proxy-mode=nftables \
  --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0s --conntrack-tcp-timeout-close-wait=0s
while :; do wait -n 2>/dev/null || sleep 1; done
