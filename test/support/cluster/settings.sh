# shellcheck shell=bash
# What the parts of a cluster read: certificates, logins, their settings. Sourced by cluster.sh, which has set where things
# are (`state`, `parts`) and the addresses.

# key FILE
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

# certificate NAME SUBJECT EXTENSIONS: signed by the cluster's own authority
certificate() {
  key "$state/pki/$1.key"
  openssl req -new -key "$state/pki/$1.key" -subj "$2" |
    openssl x509 -req -CA "$state/pki/ca.crt" -CAkey "$state/pki/ca.key" -CAcreateserial -days 30 \
      -out "$state/pki/$1.crt" -extfile <(printf '%s\n' "$3") 2>/dev/null
}

write_certificates() {
  local names="DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
  key "$state/pki/ca.key"
  openssl req -x509 -new -key "$state/pki/ca.key" -subj /CN=test-cluster -days 30 -out "$state/pki/ca.crt"
  key "$state/pki/accounts.key"
  openssl ec -in "$state/pki/accounts.key" -pubout -out "$state/pki/accounts.pub" 2>/dev/null
  certificate apiserver /CN=kube-apiserver "subjectAltName=$names,IP:127.0.0.1,IP:$node_ip,IP:$api_service_ip
extendedKeyUsage=serverAuth"
  certificate kubelet /CN=node1 "subjectAltName=DNS:node1,IP:127.0.0.1,IP:$node_ip
extendedKeyUsage=serverAuth"
  certificate apiserver-at-kubelet "/O=system:masters/CN=apiserver-at-kubelet" "extendedKeyUsage=clientAuth"
}

# login NAME USER GROUPS: a token, and the kubeconfig that has it
login() {
  local token
  token="$(openssl rand -hex 16)"
  printf '%s,%s,%s,"%s"\n' "$token" "$2" "$1" "$3" >>"$state/logins/tokens.csv"
  cat >"$state/logins/$1.conf" <<END
apiVersion: v1
kind: Config
clusters:
  - name: test
    cluster:
      server: https://$node_ip:6443
      certificate-authority-data: $(base64 -w 0 "$state/pki/ca.crt")
users:
  - name: $1
    user:
      token: $token
contexts:
  - name: test
    context:
      cluster: test
      user: $1
current-context: test
END
}

write_logins() {
  login admin admin system:masters
  login controllers system:kube-controller-manager system:masters
  login scheduler system:kube-scheduler ""
  login proxy system:kube-proxy ""
  login kubelet system:node:node1 system:nodes
}

write_containerd() {
  cat >"$state/containerd/config.toml" <<END
version = 2
root = "$state/containerd/root"
state = "$state/containerd/state"
[grpc]
  address = "$state/containerd/socket"
[plugins."io.containerd.internal.v1.opt"]
  path = "$state/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  netns_mounts_under_state_dir = true
  # Without the right to lower an oom score, each sandbox would end with "can't get final child's PID from pipe".
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$state/registries"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$parts/cni"
    conf_dir = "$state/network"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$snapshotter"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
END
  cat >"$state/network/pods.conflist" <<END
{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "pods0",
      "isGateway": true,
      "ipMasq": true,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "dataDir": "$state/addresses",
        "ranges": [[{ "subnet": "$pod_net" }]],
        "routes": [{ "dst": "0.0.0.0/0" }]
      }
    },
    { "type": "portmap", "capabilities": { "portMappings": true } }
  ]
}
END
}

write_kubelet() {
  cat >"$state/kubelet/config.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$state/containerd/socket
tlsCertFile: $state/pki/kubelet.crt
tlsPrivateKeyFile: $state/pki/kubelet.key
authentication:
  anonymous: { enabled: false }
  webhook: { enabled: true }
  x509: { clientCAFile: $state/pki/ca.crt }
authorization: { mode: Webhook }
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
enforceNodeAllocatable: [pods]
failSwapOn: false
failCgroupV1: false
# The node shares the machine's disk, so how full that is must not matter.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: { memory.available: 100Mi, nodefs.available: "0%", imagefs.available: "0%", nodefs.inodesFree: "0%" }
syncFrequency: 10s
kubeAPIQPS: 1000
kubeAPIBurst: 1000
podLogsDir: $state/pod-logs
resolvConf: $state/resolv.conf
END
  # The look-up of an unknown name fails at once, and not after 20 s.
  echo nameserver 127.0.0.1 >"$state/resolv.conf"
}

write_settings() {
  mkdir -p "$state"/{log,pki,logins,registries,etcd,kubelet,network,addresses,containerd,sysctl,pids,held}
  write_certificates
  write_logins
  write_containerd
  write_kubelet
}
