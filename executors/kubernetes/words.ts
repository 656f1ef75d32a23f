import type { ExecutorWords } from "../../src/executor-words.ts";
import { kubernetesFlags } from "./settings/flags.ts";

export const words: ExecutorWords = {
  name: "kubernetes",
  title: "Kubernetes",
  builtOn: [],
  worksOnThisMachine: false,
  flags: kubernetesFlags,
  questions: [],
  foreignKeys: {
    kubernetes: `namespace_per_job resource_availability_check_max_attempts helper_image_flavor logs_base_dir
      scripts_base_dir pod_disruption_budget autoscaler suspend_pvc_size suspend_pvc_storage_class`,
  },
};
