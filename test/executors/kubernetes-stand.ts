/** A namespace of a real cluster, and executors that make their pods there. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import kubernetes from "../../executors/kubernetes/index.ts";
import { checkedTable } from "../../executors/kubernetes/settings/table.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { TestCluster } from "../support/cluster/cluster.ts";
import { type DepsOptions, executorDeps } from "../support/executor-deps.ts";
import { imageName } from "../support/images.ts";

export interface KubernetesStand {
  readonly namespace: string;
  /** The table of a volume for builds that outlives its job. */
  readonly kept: Readonly<Record<string, string>>;
  open(deps?: DepsOptions, table?: Readonly<Record<string, unknown>>): Executor;
  /** Names of the objects of this kind. */
  names(kind: "pods" | "secrets"): Promise<string[]>;
  close(): void;
}

export async function openStand(
  cluster: TestCluster,
  labels: Readonly<Record<string, string>> = {},
): Promise<KubernetesStand> {
  const dir = mkdtempSync(join(tmpdir(), "alloy-kubernetes-"));
  mkdirSync(join(dir, "scratch"));
  mkdirSync(join(dir, "builds"));
  const namespace = await cluster.createNamespace(labels);
  const env = { PATH: process.env.PATH, HOME: dir, KUBECONFIG: cluster.kubeconfig };
  return {
    namespace,
    kept: { name: "kept", mount_path: "/builds", host_path: join(dir, "builds") },
    open: (deps = {}, table = {}) =>
      kubernetes.create(
        {
          kubernetes: checkedTable.parse({
            namespace,
            image: imageName("git"),
            helper_image: imageName("git"),
            pull_policy: "if-not-present",
            ...table,
          }),
        },
        executorDeps(dir, { env, killGraceMs: 1000, ...deps }),
      ),
    names: async (kind) => {
      const text = await cluster.kubectl(["get", kind, "-n", namespace, "-o", "name"]);
      return text.trim() === "" ? [] : text.trim().split("\n");
    },
    close: () => rmSync(dir, { recursive: true, force: true }),
  };
}
