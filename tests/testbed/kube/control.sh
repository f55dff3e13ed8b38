#!/bin/bash
# The control plane: the first process of its own pid, network, mount, ipc and uts namespaces. All of the cluster ends with it.
# RUN is the directory of the cluster, BIN that of Kubernetes' commands, CGROUP the name of its control group, NODES how many it has.
set -uo pipefail
P=$RUN/pki L=$RUN/log PIDS=$RUN/pids
hostname control
ip link set lo up
ip link add br0 type bridge && ip addr add "$CONTROL/24" dev br0 && ip link set br0 up
ip route add default dev br0
for i in $(seq "$NODES"); do ip route add "10.91.$i.0/24" via "10.90.0.$i"; done

# keep NAME COMMAND...: it is started again whenever it ends, but not while $PIDS/NAME.off is there. $PIDS/NAME is its pid.
keep() {
  local name=$1; shift
  ( while :; do
      if [ -e "$PIDS/$name.off" ]; then sleep 0.1; continue; fi
      "$@" >> "$L/$name.log" 2>&1 & echo $! > "$PIDS/$name"; wait $!; rm -f "$PIDS/$name"
      echo "--- $name ended: $?" >> "$L/$name.log"; sleep 0.3
    done ) &
}
# The test process makes the file once the API answers: whoever asks before would wait longer, by its own back-off.
ready() { until [ -e "$RUN/ready" ]; do sleep 0.1; done; }
export -f keep ready; export P L PIDS

# Nothing here outlives a crash of the machine, so nothing is synced.
keep etcd etcd --data-dir "$RUN/etcd" --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster default=http://127.0.0.1:2380 \
  --unsafe-no-fsync --log-level warn
keep dns dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --group= --pid-file= --no-resolv --no-hosts --addn-hosts="$RUN/hosts" \
  --listen-address="$CONTROL" --bind-interfaces --address=/#/ --log-facility=-
keep apiserver "$BIN/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --bind-address=0.0.0.0 --advertise-address="$CONTROL" \
  --service-cluster-ip-range=10.96.0.0/16 --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
  --client-ca-file="$P/ca.pem" --tls-cert-file="$P/apiserver.pem" --tls-private-key-file="$P/apiserver.key" \
  --kubelet-client-certificate="$P/admin.pem" --kubelet-client-key="$P/admin.key" \
  --kubelet-certificate-authority="$P/ca.pem" --kubelet-preferred-address-types=InternalIP \
  --service-account-issuer=https://kubernetes.default.svc.cluster.local --service-account-key-file="$P/sa.pem" --service-account-signing-key-file="$P/sa.key" \
  --requestheader-client-ca-file="$P/ca.pem" --requestheader-allowed-names=front-proxy --requestheader-username-headers=X-Remote-User

# A node has pid, network, mount and uts namespaces of its own: to end its first process is to pull its plug.
node() {
  local i=$1 N=$RUN/node$1 u c
  while :; do
    [ ! -e "$N/off" ] || { sleep 0.1; continue; }
    unshare --mount --net --uts --pid --fork --kill-child --mount-proc bash "$RUN/node.sh" "$i" >> "$L/node$i.log" 2>&1 & u=$!
    c=; until c=$(cat "/proc/$u/task/$u/children" 2>/dev/null) && [ -n "$c" ]; do sleep 0.05; [ -d "/proc/$u" ] || break; done
    c=${c%% *}; echo "$c" > "$N/pid"
    # The address of the link is the same every time: what others know of it outlives a reboot.
    ip link add "n$i" type veth peer name eth0 address "$(printf 02:00:00:00:00:%02x "$i")" netns "$c" && ip link set "n$i" master br0 up
    wait $u; rm -f "$N/pid"; echo "--- node$i is off" >> "$L/node$i.log"; ip link del "n$i" 2>/dev/null; sleep 0.3
    # Those that are left of pods cost the next kubelet 25 s.
    find /sys/fs/cgroup/*/"$CGROUP/node$i" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null
  done
}
for i in $(seq "$NODES"); do node "$i" & done
ready
keep kcm "$BIN/kube-controller-manager" --kubeconfig="$RUN/kcm.kubeconfig" --authentication-kubeconfig="$RUN/kcm.kubeconfig" \
  --authorization-kubeconfig="$RUN/kcm.kubeconfig" --bind-address=127.0.0.1 --leader-elect=false --use-service-account-credentials=true \
  --root-ca-file="$P/ca.pem" --service-account-private-key-file="$P/sa.key" --service-cluster-ip-range=10.96.0.0/16 \
  --kube-api-qps=500 --kube-api-burst=1000 --node-monitor-grace-period=16s --node-monitor-period=1s
keep scheduler "$BIN/kube-scheduler" --kubeconfig="$RUN/scheduler.kubeconfig" --authentication-kubeconfig="$RUN/scheduler.kubeconfig" \
  --authorization-kubeconfig="$RUN/scheduler.kubeconfig" --bind-address=127.0.0.1 --leader-elect=false --kube-api-qps=500 --kube-api-burst=1000
while :; do wait -n 2>/dev/null || sleep 1; done
