import type { ExecutorWords } from "../../src/executor/words.ts";
import { kubernetesFlags } from "./settings/flags.ts";

export const words: ExecutorWords = {
  name: "kubernetes",
  title: "Kubernetes",
  builtOn: [],
  worksOnThisMachine: false,
  flags: kubernetesFlags,
  questions: [
    {
      flag: "kubernetes-namespace",
      message: "Namespace of its own for the jobs' pods; empty: the runner's or the context's",
    },
    { flag: "kubernetes-image", message: "Image for jobs that name none, such as ruby:3.3" },
  ],
  foreignKeys: {
    kubernetes: `resource_availability_check_max_attempts helper_image_flavor logs_base_dir
      scripts_base_dir pod_disruption_budget autoscaler suspend_pvc_size suspend_pvc_storage_class`,
  },
  // In a cluster nothing has to be configured, so the table may be empty.
  completeEntry: (entry) => ({ ...entry, kubernetes: entry.kubernetes ?? {} }),
};
