import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { never } from "../../src/time.ts";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { runOps, Sink, sampleRequest, source } from "../support/executor-kit.ts";
import { type KubernetesStand, openStand } from "./kubernetes-stand.ts";

const cluster = await useCluster({ own: true });

describe("jobs in a cluster whose parts fail", () => {
  if (cluster === null) {
    test.skip(`needs a cluster: ${noCluster}`, () => {});
    return;
  }
  let stand: KubernetesStand;
  beforeAll(async () => {
    await cluster.images("git");
    stand = await openStand(cluster);
  }, 300_000);

  const prepared = async () => {
    const executor = stand.open();
    onTestFinished(() => executor.close(never));
    const environment = await executor.prepare(sampleRequest(), new Sink(), never);
    onTestFinished(() => environment.destroy(never));
    return environment;
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
});
