import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { SystemFailure } from "../../src/errors.ts";
import { never } from "../../src/time.ts";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { runOps, Sink, sampleRequest, source } from "../support/executor-kit.ts";
import { imageName } from "../support/images.ts";
import { type KubernetesStand, openStand } from "./kubernetes-stand.ts";

const cluster = await useCluster({ own: true });

describe("jobs in a cluster whose parts fail", () => {
  if (cluster === null) {
    test.skip(`needs a cluster: ${noCluster}`, () => {});
    return;
  }
  let stand: KubernetesStand;
  beforeAll(async () => {
    await cluster.images("git", "sh");
    stand = await openStand(cluster);
  }, 300_000);

  const prepared = async (table: Readonly<Record<string, unknown>> = {}) => {
    const executor = stand.open({}, table);
    onTestFinished(() => executor.close(never));
    const environment = await executor.prepare(sampleRequest(), new Sink(), never);
    onTestFinished(() => environment.destroy(never));
    return environment;
  };
  /** A script that has begun and does not end by itself. */
  const running = async (table: Readonly<Record<string, unknown>> = {}) => {
    const environment = await prepared(table);
    const output = new Sink();
    const ran = runOps(environment, source("echo begun; sleep 600"), { output });
    ran.catch(() => {});
    await output.until(/begun/);
    return { environment, ran };
  };

  test("API server, kubelet and container runtime die under a script, whose output and status are whole", async () => {
    const environment = await prepared();
    const output = new Sink();
    const lines = "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i + 1)); sleep 0.05; done; exit 7";
    const running = runOps(environment, source(lines), { output });
    running.catch(() => {});
    await output.until(/line 20\n/);
    await cluster.kill("apiserver");
    await output.until(/line 120\n/);
    await cluster.kill("kubelet");
    await output.until(/line 200\n/);
    await cluster.kill("containerd");
    const { code, text } = await running;
    expect(code).toBe(7);
    const said = text
      .replace(/^.*The connection to the pod is .*\n/gm, "")
      .replace(/^.*The connection to the pod is lost.*\n/gm, "");
    expect(said).toBe(Array.from({ length: 300 }, (_, index) => `line ${index}\n`).join(""));
    await cluster.ready();
  }, 240_000);

  test("a kubelet that dies makes no success of a script that fails", async () => {
    const environment = await prepared();
    const output = new Sink();
    const running = runOps(environment, source("echo begun; sleep 5; exit 3"), { output });
    running.catch(() => {});
    await output.until(/begun/);
    await cluster.kill("kubelet");
    expect((await running).code).toBe(3);
    await cluster.ready();
  }, 240_000);

  test("a stop while the API server is away ends the script once it is back", async () => {
    const environment = await prepared();
    const output = new Sink();
    const stop = new AbortController();
    const running = runOps(environment, source("echo begun; sleep 600"), { output, signal: stop.signal });
    running.catch(() => {});
    await output.until(/begun/);
    const release = await cluster.hold("apiserver");
    stop.abort(new Error("stopped"));
    await release();
    await expect(running).rejects.toThrow("stopped");
    await cluster.ready();
    const { code } = await runOps(environment, source("pgrep -f 'sleep 600' || exit 9"));
    expect(code).toBe(9);
  }, 240_000);

  test("a pod that another one of higher priority takes the place of says so", async () => {
    const cpu = await cluster.kubectl(["get", "node", "node1", "-o", "jsonpath={.status.allocatable.cpu}"]);
    const most = String(Number(cpu) - 0.5);
    const { ran } = await running({ cpu_request: most });
    await cluster.kubectl(["create", "priorityclass", "urgent", "--value=1000"]);
    const urgent = { name: "urgent", image: imageName("sh"), imagePullPolicy: "Never", command: ["sleep", "1000"] };
    const pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "urgent", namespace: stand.namespace },
      spec: {
        priorityClassName: "urgent",
        terminationGracePeriodSeconds: 1,
        containers: [{ ...urgent, resources: { requests: { cpu: most } } }],
      },
    };
    await cluster.kubectl(["create", "-f", "-"], JSON.stringify(pod));
    onTestFinished(async () => {
      await cluster.kubectl(["delete", "pod", "urgent", "-n", stand.namespace]);
    });
    await expect(ran).rejects.toMatchObject({
      reason: "runner_system_failure",
      retry: true,
      message: expect.stringMatching(/took the job's pod away \(preempted by a pod of higher priority\)/),
    });
  }, 240_000);

  test("a pod whose node is tainted says so", async () => {
    const { ran } = await running();
    await cluster.kubectl(["taint", "node", "node1", "broken=yes:NoExecute"]);
    onTestFinished(async () => {
      await cluster.kubectl(["taint", "node", "node1", "broken-"]);
    });
    await expect(ran).rejects.toMatchObject({
      reason: "runner_system_failure",
      retry: true,
      message: expect.stringMatching(/took the job's pod away \(its node was tainted or lost\)/),
    });
  }, 240_000);

  test("a node that is lost ends the job with its name, and what it still ran is removed once it is back", async () => {
    const { ran, environment } = await running();
    const release = await cluster.hold("kubelet");
    // A cluster taints such a node itself, but not where it has no other: it suspects its own sight then.
    await cluster.kubectl(["taint", "node", "node1", "lost=yes:NoExecute"]);
    onTestFinished(async () => {
      await cluster.kubectl(["taint", "node", "node1", "lost-"]);
    });
    const failed = await ran.catch((error: unknown) => error);
    const cleaned = environment.destroy(never);
    cleaned.catch(() => {});
    await release();
    await cluster.ready();
    expect(failed).toBeInstanceOf(SystemFailure);
    expect(failed).toMatchObject({
      reason: "runner_system_failure",
      retry: true,
      message: expect.stringMatching(/took the job's pod away \(its node was tainted or lost\)/),
    });
    await cleaned;
    const pods = async () => await stand.names("pods");
    await expect.poll(pods, { timeout: 60_000 }).toEqual([]);
  }, 400_000);
});
