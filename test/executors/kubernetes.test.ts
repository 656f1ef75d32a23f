import { afterAll, beforeAll, describe, test } from "vitest";
import { executorContract } from "../contract/executor.ts";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { type KubernetesStand, openStand } from "./kubernetes-stand.ts";

const cluster = await useCluster();

describe("kubernetes executor", () => {
  const shell = "bash";
  if (cluster === null) {
    test.skip(`needs a cluster: ${noCluster}`, () => {});
    return;
  }
  let stand: KubernetesStand;
  beforeAll(async () => {
    await cluster.images("sh", "helper", "git");
    stand = await openStand(cluster);
  }, 300_000);
  afterAll(() => stand.close());
  executorContract(`${shell} in a pod`, {
    // The builds directory is one of the node's, so that something is kept between jobs.
    open: async (options) => stand.open({ shell, ...options }, { volumes: { host_path: [stand.kept] } }),
    timeoutMs: 120_000,
    shared: true,
    jobsAtOnce: 8,
  });
});
