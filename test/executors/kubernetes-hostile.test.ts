import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { createServer, type RequestListener } from "node:http";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { ScriptFailure, SystemFailure } from "../../src/errors.ts";
import { never } from "../../src/time.ts";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { runOps, Sink, sampleRequest, source } from "../support/executor-kit.ts";
import { imageRecipe } from "../support/images.ts";
import { type KubernetesStand, openStand } from "./kubernetes-stand.ts";

const cluster = await useCluster();

/** What jobs do to their pods, and what clusters do to those of jobs. */
describe("pods that come to harm", () => {
  if (cluster === null) {
    test.skip(`needs a cluster: ${noCluster}`, () => {});
    return;
  }
  let stand: KubernetesStand;
  beforeAll(async () => {
    await cluster.images("git");
    stand = await openStand(cluster);
  }, 300_000);
  afterAll(() => stand.close());

  const it = (title: string, body: () => Promise<void>): void => test(title, body, 180_000);
  const kubectl = (...args: readonly string[]): Promise<string> => cluster.kubectl(["-n", stand.namespace, ...args]);
  const preparing = (table: Readonly<Record<string, unknown>> = {}, where = stand) => {
    const executor = where.open({}, table);
    onTestFinished(() => executor.close(never));
    const [notes, request] = [new Sink(), sampleRequest()];
    const prepared = executor.prepare(request, notes, never);
    prepared.catch(() => {});
    onTestFinished(async () => {
      const environment = await prepared.catch(() => null);
      await environment?.destroy(never);
    });
    return { prepared, notes, request };
  };
  /** A script under way whose first line is there. */
  const running = async (script: readonly string[], table: Readonly<Record<string, unknown>> = {}) => {
    const { prepared, request } = preparing(table);
    const environment = await prepared;
    const [output, stop] = [new Sink(), new AbortController()];
    const ran = runOps(environment, source("echo begun", ...script), { output, signal: stop.signal });
    ran.catch(() => {});
    await Promise.race([output.until(/begun/), ran.catch(() => {})]);
    const found = await kubectl("get", "pods", "-l", `alloy-runner.job-key=${request.jobKey}`, "-o", "name");
    const name = found.trim().replace("pod/", "");
    return { environment, output, stop, ran, name };
  };
  const patch = (...operations: readonly object[]) => ({
    pod_spec: [{ name: "test", patch_type: "json", patch: JSON.stringify(operations) }],
  });

  it("a full quota is waited for, and the trace says so", async () => {
    const small = await openStand(cluster);
    onTestFinished(() => small.close());
    await cluster.kubectl(["create", "quota", "one", "--hard=pods=1", "-n", small.namespace]);
    const first = await preparing({}, small).prepared;
    const second = preparing({}, small);
    await second.notes.until(/Waiting for room in the namespace's quota: .*exceeded quota: one/);
    await first.destroy(never);
    expect((await runOps(await second.prepared, source("echo ran"))).text).toBe("ran\n");
  });

  it("what an admission policy refuses is the configuration's, with the policy's words", async () => {
    const { namespace } = stand;
    const policy = {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "ValidatingAdmissionPolicy",
      metadata: { name: namespace },
      spec: {
        matchConstraints: {
          resourceRules: [{ apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"] }],
        },
        validations: [{ expression: "!has(object.metadata.labels.refused)", message: "no pods of that kind here" }],
      },
    };
    const binding = {
      apiVersion: policy.apiVersion,
      kind: "ValidatingAdmissionPolicyBinding",
      metadata: { name: namespace },
      spec: {
        policyName: namespace,
        validationActions: ["Deny"],
        matchResources: { namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": namespace } } },
      },
    };
    for (const object of [policy, binding]) await cluster.kubectl(["create", "-f", "-"], JSON.stringify(object));
    onTestFinished(async () => {
      await cluster.kubectl(["delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", namespace]);
    });
    // It takes a moment until it is in force.
    const refused = async () =>
      await cluster
        .kubectl(["run", "x", "-n", namespace, "--image=x", "--labels=refused=1", "--dry-run=server"])
        .then(() => "", String);
    await expect.poll(refused, { timeout: 30_000 }).toMatch(/no pods of that kind/);
    const { prepared } = preparing({ pod_labels: { refused: "yes" } });
    await expect(prepared).rejects.toMatchObject({
      reason: "runner_configuration_error",
      retry: false,
      message: expect.stringMatching(/no pods of that kind here/),
    });
  });

  it("a registry that cannot be reached is no image that is absent", async () => {
    const { prepared } = preparing({ image: "127.0.0.1:1/x/y:1", pull_policy: "always", poll_timeout: 10 });
    await expect(prepared).rejects.toMatchObject({
      reason: "runner_external_dependency_failure",
      message: expect.stringMatching(/127\.0\.0\.1:1.*connection refused.*The registry cannot be reached/),
    });
  });

  describe.each<[string, RequestListener, string]>([
    [
      "limits pulls",
      (_, answer) => {
        const errors = [{ code: "TOOMANYREQUESTS", message: "You have reached your pull rate limit" }];
        answer.writeHead(429, { "content-type": "application/json" }).end(JSON.stringify({ errors }));
      },
      "429 Too Many Requests. The registry limits pulls: give the runner a login for it, or use a mirror",
    ],
    ["does not answer", () => {}, "is still being pulled: its registry is slow, or does not answer"],
    [
      "fails",
      (_, answer) => void answer.writeHead(503).end("try again"),
      "503 Service Unavailable. The registry cannot be reached",
    ],
  ])("a registry that %s", (_, listener, words) => {
    let image = "";
    const serving = async (): Promise<void> => {
      const server = createServer(listener);
      server.listen(0, cluster.hostAddress);
      await once(server, "listening");
      onTestFinished(() => {
        server.closeAllConnections();
        server.close();
      });
      const address = server.address();
      if (address === null || typeof address === "string") throw new Error("no port");
      const place = `${cluster.hostAddress}:${address.port}`;
      await cluster.trustRegistry(place);
      image = `${place}/some/image:1`;
    };
    const table = { pull_policy: "always", poll_timeout: 8 };

    it("is told by its words once the time is over, and may be tried again", async () => {
      await serving();
      const { prepared } = preparing({ ...table, image });
      const began = performance.now();
      await expect(prepared).rejects.toMatchObject({
        reason: "runner_external_dependency_failure",
        retry: true,
        message: expect.stringContaining(words),
      });
      expect(performance.now() - began).toBeLessThan(20_000);
    });

    it("does not matter where the next policy needs none", async () => {
      await serving();
      await cluster.image({ name: image, ...imageRecipe("git") });
      const policies = { pull_policy: ["always", "if-not-present"], poll_timeout: 10 };
      const { prepared, notes } = preparing({ ...table, image, ...policies });
      expect((await runOps(await prepared, source("echo ran"))).text).toBe("ran\n");
      expect(notes.text).toContain("Trying with pull policy if-not-present");
    });
  });

  it("a script that uses more of the node's disk than it may is the job's failure", async () => {
    const table = { ephemeral_storage_limit: "20Mi" };
    const { ran } = await running(["head -c 80000000 /dev/zero >/big", "sleep 120"], table);
    await expect(ran).rejects.toBeInstanceOf(ScriptFailure);
    await expect(ran).rejects.toThrow(/The node evicted the job's pod: .*20Mi/);
  });

  it("memory that runs out is named with the limit, for all of a container and for the helper", async () => {
    const volumes = { empty_dir: [{ name: "mem", mount_path: "/mem", medium: "Memory" }] };
    const limits = { memory_limit: "64Mi", helper_memory_limit: "48Mi", volumes };
    const { environment, ran, output } = await running(["head -c 300000000 /dev/zero >/mem/x", "sleep 60"], limits);
    const helper = new Sink();
    const greedy = source("head -c 300000000 /dev/zero | tail -c 300000000 | wc -c");
    expect((await runOps(environment, greedy, { runIn: "helper", output: helper })).code).not.toBe(0);
    expect(helper.text).toMatch(/Out of memory: .*the helper container may use 48Mi \(helper_memory_limit/);
    expect((await ran).code).toBe(137);
    expect(output.text).toMatch(/Out of memory: .*64Mi \(memory_limit/);
  });

  it("a pod that was active for too long is said to be that", async () => {
    const deadline = patch({ op: "replace", path: "/activeDeadlineSeconds", value: 15 });
    const { ran } = await running(["sleep 60"], deadline);
    await expect(ran).rejects.toThrow(/activeDeadlineSeconds/);
  });

  it("a pod that a drain takes away is no script's failure", async () => {
    const { ran, name } = await running(["sleep 60"]);
    const { namespace } = stand;
    const eviction = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name, namespace } };
    const path = `/api/v1/namespaces/${namespace}/pods/${name}/eviction`;
    await cluster.kubectl(["create", "--raw", path, "-f", "-"], JSON.stringify(eviction));
    await expect(ran).rejects.toMatchObject({
      retry: true,
      message: expect.stringMatching(/took the job's pod away \(its node is drained\)/),
    });
  });

  it("a script that ends the container's first process is told so at once, with what it had printed", async () => {
    const { ran, output } = await running(["echo last words; kill 1; sleep 600"]);
    await expect(ran).rejects.toBeInstanceOf(SystemFailure);
    await expect(ran).rejects.toThrow(/build container has ended with status \d+ while a script ran in it/);
    expect(output.text).toContain("last words");
  });

  it("a script that starts all the processes it may is stopped at once, and ends with its pod", async () => {
    const bomb = "i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done";
    const { environment, ran, stop, name, output } = await running(["until [ -e /go ]; do sleep 0.2; done", bomb]);
    const uid = (await kubectl("get", "pod", name, "-o", "jsonpath={.metadata.uid}")).trim();
    const places = execFileSync("find", ["/sys/fs/cgroup", "-path", `*pod${uid}/pids.max`], { encoding: "utf8" });
    for (const place of places.trim().split("\n")) writeFileSync(place, "120");
    await kubectl("exec", name, "-c", "build", "--", "touch", "/go");
    await output.until(/Resource temporarily unavailable/);
    stop.abort(new Error("stopped"));
    await expect(ran).rejects.toThrow("stopped");
    await environment.destroy(never);
    await expect.poll(() => places.trim().split("\n").filter(existsSync), { timeout: 30_000 }).toEqual([]);
  });
});
