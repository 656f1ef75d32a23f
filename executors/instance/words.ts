import type { EntryQuestion, ExecutorWords } from "../../src/executor/words.ts";
import { autoscalerFlags } from "./flags.ts";

/** Asked of every executor whose jobs are on instances. */
export const autoscalerQuestions: readonly EntryQuestion[] = [
  { flag: "autoscaler-plugin", message: "Plugin that makes instances: exec or static", required: true },
  {
    flag: "autoscaler-plugin-config",
    message: "Its program, such as command:/opt/cloud/provider",
    required: true,
  },
  { flag: "autoscaler-connector-config-username", message: "Account on instances (empty: root, or the plugin's)" },
];

export const words: ExecutorWords = {
  name: "instance",
  title: "Instance",
  builtOn: [],
  worksOnThisMachine: false,
  flags: autoscalerFlags,
  questions: autoscalerQuestions,
  foreignKeys: {
    instance: "allowed_images use_common_build_dir",
    autoscaler: `plugin plugin_config connector_config capacity_per_instance max_use_count max_instances update_interval
      update_interval_when_expecting instance_ready_command instance_acquire_timeout failure_threshold
      deletion_retry_interval shutdown_deletion_interval shutdown_deletion_retries delete_instances_on_shutdown
      scale_throttle reservation_throttling log_internal_ip log_external_ip state_storage vm_isolation policy
      instance_creation_time_buckets instance_is_running_time_buckets instance_deletion_time_buckets
      instance_readiness_time_buckets instance_operation_time_buckets instance_life_duration_buckets`,
    "autoscaler.connector_config": `os arch protocol protocol_port username password key_path use_static_credentials
      keepalive timeout use_external_addr`,
    "autoscaler.policy": "periods timezone idle_count idle_time scale_factor scale_factor_limit preemptive_mode",
    "autoscaler.scale_throttle": "limit burst",
    "autoscaler.vm_isolation": "enabled nesting_host nesting_config image connector_config",
  },
};
