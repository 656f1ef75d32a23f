import type { EntryQuestion, ExecutorWords } from "../../src/executor/words.ts";
import { dockerFlags, withCacheVolume } from "./settings/flags.ts";

export const imageQuestion: EntryQuestion = {
  flag: "docker-image",
  message: "Default image, such as ruby:3.3",
  required: true,
};

export const words: ExecutorWords = {
  name: "docker",
  title: "Docker",
  builtOn: [],
  worksOnThisMachine: false,
  flags: dockerFlags,
  questions: [imageQuestion],
  foreignKeys: {
    docker: `host tls_cert_path tls_verify hostname image runtime cpuset_cpus cpus dns dns_search privileged
      userns_mode cap_add cap_drop security_opt devices disable_cache volumes volume_driver cache_dir extra_hosts
      volumes_from network_mode links services wait_for_services_timeout allowed_images allowed_services pull_policy
      shm_size tmpfs services_tmpfs sysctls helper_image memory memory_swap memory_reservation allowed_pull_policies
      gpus service_gpus helper_image_flavor helper_image_autoset_arch_and_os user allowed_users group_add
      services_limit services_privileged services_security_opt services_devices service_memory service_memory_swap
      service_memory_reservation service_cpus service_cpu_shares service_cpuset_cpus service_cgroup_parent
      allowed_privileged_images allowed_privileged_services ulimit oom_kill_disable oom_score_adjust cpu_shares
      cpuset_mems cgroup_parent device_cgroup_rules pid_mode ipcmode mac_address isolation volume_driver_ops
      volume_keep container_labels log_options enable_ipv6 network_mtu disable_entrypoint_overwrite
      allowed_groups helper_entrypoint_always privileged_services credentials proxy_exec service_slot_cgroup_template`,
  },
  completeEntry: withCacheVolume,
};
