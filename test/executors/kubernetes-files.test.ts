import { tmpdir } from "node:os";
import { afterAll, beforeAll, describe, test } from "vitest";
import { openAccess } from "../../executors/kubernetes/access/access.ts";
import { type Api, createApi } from "../../executors/kubernetes/api/client.ts";
import { podCommands } from "../../executors/kubernetes/api/commands.ts";
import { kubernetesTable } from "../../executors/kubernetes/settings/settings.ts";
import { probeTools, type RemoteCommands, remoteFiles } from "../../executors/remote/index.ts";
import { never } from "../../src/time.ts";
import { workspaceContract } from "../contract/workspace.ts";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { imageName } from "../support/images.ts";

const cluster = await useCluster();

describe("files over the exec channel of a pod", () => {
  if (cluster === null) {
    test.skip(`needs a cluster: ${noCluster}`, () => {});
    return;
  }
  let api: Api;
  let commands: RemoteCommands;
  beforeAll(async () => {
    await cluster.images("git");
    const namespace = await cluster.createNamespace();
    const pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "files" },
      spec: {
        terminationGracePeriodSeconds: 0,
        containers: [
          {
            name: "helper",
            image: imageName("git"),
            command: ["sleep", "3600"],
            volumeMounts: [{ name: "tmp", mountPath: tmpdir() }],
          },
        ],
        volumes: [{ name: "tmp", hostPath: { path: tmpdir() } }],
      },
    };
    await cluster.kubectl(["create", "-n", namespace, "-f", "-"], JSON.stringify(pod));
    await cluster.kubectl(["wait", "--for=condition=Ready", "pod/files", "-n", namespace, "--timeout=60s"]);
    const { connection, retry } = kubernetesTable.parse({});
    const env = { KUBECONFIG: cluster.kubeconfig };
    api = createApi(await openAccess({ connection, env, working: tmpdir() }), retry);
    commands = podCommands({ api, namespace, pod: "files", container: "helper", lost: async () => null });
  }, 300_000);
  afterAll(() => api.close());

  workspaceContract("a pod", {
    open: async (place) => remoteFiles(commands, { ...place, tools: await probeTools(commands, never) }),
  });
});
