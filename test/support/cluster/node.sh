#!/usr/bin/env bash
# The first process of a cluster's namespaces, started by cluster.sh: sets up the node, starts every part and starts it again
# when it ends. Killing this process ends all of it.
#   node.sh STATE
set -euo pipefail
state=$1
# shellcheck disable=SC1091 # written by cluster.sh
. "$state/words.sh"
export PATH="$parts/bin:$parts/cni:$PATH:/usr/sbin:/sbin"

mount --make-rshared /
# The kubelet has panics and memory handled its own way, for the whole machine: it gets files to write instead.
for name in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  cat "/proc/sys/$name" >"$state/sysctl/${name//\//.}"
  mount --bind "$state/sysctl/${name//\//.}" "/proc/sys/$name"
done
mount --bind "$state/resolv.conf" /etc/resolv.conf
# Sockets, logs and the like that the parts have at fixed places stay in here.
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var
mkdir -p /var/log /var/lib /var/tmp

ip link set lo up
touch "$state/waits-for-network"
until [ -e "$state/has-network" ]; do sleep 0.05; done
ip addr add "$node_ip/30" dev eth0
ip link set eth0 up
ip route add unreachable default
# No packet takes this route, as kube-proxy rewrites the address first; but without a route kube-proxy would not see it.
ip route add "$service_net" via "$host_ip"
echo 1 >/proc/sys/net/ipv4/ip_forward

# keep NAME COMMAND...: runs it, and again 0.3 s after it ended, but not while a test holds it down
keep() {
  local name=$1
  shift
  (
    while :; do
      while [ -e "$state/held/$name" ]; do sleep 0.05; done
      "$@" >>"$state/log/$name" 2>&1 </dev/null &
      echo $! >"$state/pids/$name"
      wait $! || true
      sleep 0.3
    done
  ) &
}

keep containerd containerd --config "$state/containerd/config.toml"
keep etcd etcd --data-dir "$state/etcd" --unsafe-no-fsync --log-level warn --listen-client-urls http://127.0.0.1:2379 \
  --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380
keep apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --advertise-address="$node_ip" \
  --service-cluster-ip-range="$service_net" --tls-cert-file="$state/pki/apiserver.crt" --tls-private-key-file="$state/pki/apiserver.key" \
  --client-ca-file="$state/pki/ca.crt" --kubelet-client-certificate="$state/pki/apiserver-at-kubelet.crt" \
  --kubelet-client-key="$state/pki/apiserver-at-kubelet.key" --kubelet-certificate-authority="$state/pki/ca.crt" \
  --kubelet-preferred-address-types=InternalIP --service-account-issuer=https://kubernetes.default.svc \
  --service-account-key-file="$state/pki/accounts.pub" --service-account-signing-key-file="$state/pki/accounts.key" \
  --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --token-auth-file="$state/logins/tokens.csv" \
  --allow-privileged=true
(
  until ctr -a "$state/containerd/socket" version >/dev/null 2>&1; do sleep 0.1; done
  ctr -a "$state/containerd/socket" -n k8s.io images import --snapshotter "$snapshotter" "$parts/bin/pause.tar"
  touch "$state/has-images"
) >"$state/log/images" 2>&1 &
until kubectl --kubeconfig "$state/logins/admin.conf" get --raw /livez >/dev/null 2>&1; do sleep 0.1; done
# With its default of 20 requests per second, the default service account, which every pod needs, would come after 5 s.
keep controller-manager kube-controller-manager --kubeconfig="$state/logins/controllers.conf" --leader-elect=false \
  --kube-api-qps=1000 --kube-api-burst=1000 --service-account-private-key-file="$state/pki/accounts.key" \
  --root-ca-file="$state/pki/ca.crt" --bind-address=127.0.0.1
keep scheduler kube-scheduler --kubeconfig="$state/logins/scheduler.conf" --leader-elect=false --kube-api-qps=1000 \
  --kube-api-burst=1000 --bind-address=127.0.0.1
keep kubelet kubelet --config="$state/kubelet/config.yaml" --kubeconfig="$state/logins/kubelet.conf" --root-dir="$state/kubelet/root" \
  --hostname-override=node1 --node-ip="$node_ip" --v=2
keep proxy kube-proxy --kubeconfig="$state/logins/proxy.conf" --hostname-override=node1 --proxy-mode=iptables \
  --cluster-cidr="$pod_net" --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
# This process inherits and reaps every orphan of the node.
while :; do wait -n || true; sleep 1; done
