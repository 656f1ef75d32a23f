import { describe, test } from "vitest";
import { adoptionContract } from "../contract/adoption.ts";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { imageName } from "../support/images.ts";

const cluster = await useCluster();

describe("jobs in pods whose runner goes away", () => {
  if (cluster === null) {
    test.skip(`needs a cluster: ${noCluster}`, () => {});
    return;
  }
  let namespace = "";
  const names = async (kind: "pods" | "secrets"): Promise<string[]> => {
    const text = await cluster.kubectl(["get", kind, "-n", namespace, "-l", "alloy-runner.job-key", "-o", "name"]);
    return text.trim() === "" ? [] : text.trim().split("\n");
  };
  const podOf = async ({ id }: { readonly id: string }): Promise<string> => {
    const selected = [
      "-n",
      namespace,
      "-o",
      "jsonpath={range .items[*]}{.metadata.name} {.metadata.labels}{'\\n'}{end}",
    ];
    const lines = (await cluster.kubectl(["get", "pods", ...selected])).split("\n");
    return lines.find((line) => line.includes(`-${id}-`))?.split(" ")[0] ?? "";
  };

  adoptionContract({
    open: async ({ upstream, gates }) => {
      await cluster.images("git", "helper", "service", "user");
      namespace = await cluster.createNamespace();
      return {
        executor: "kubernetes",
        entry: `[runners.kubernetes]
namespace = "${namespace}"
image = "${imageName("git")}"
helper_image = "${imageName("helper")}"
pull_policy = "never"
[[runners.kubernetes.volumes.host_path]]
name = "upstream"
mount_path = "/upstream"
host_path = "${upstream}"
read_only = true
[[runners.kubernetes.volumes.host_path]]
name = "gates"
mount_path = "/gates"
host_path = "${gates}"
`,
        run: { env: { KUBECONFIG: cluster.kubeconfig } },
      };
    },
    leftovers: async () => [...(await names("pods")), ...(await names("secrets"))],
    remove: async (job) => {
      const pod = await podOf(job);
      await cluster.kubectl(["delete", "pod", pod, "-n", namespace, "--wait=true", "--grace-period=1"]);
    },
    end: async (job) => {
      const pod = await podOf(job);
      await cluster
        .kubectl(["exec", pod, "-n", namespace, "-c", "build", "--", "sh", "-c", "kill -9 -1; kill 1"])
        .catch(() => {});
    },
    removed: /Job failed.*Somebody has deleted the job's pod/,
  });
});
