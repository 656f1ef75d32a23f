import { once } from "node:events";
import { createServer } from "node:net";
import { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { ScriptFailure, Stop } from "../../src/errors.ts";
import { tarHeader } from "../../src/files/tar.ts";
import type { Image, Job, Service } from "../../src/job/job.ts";
import { never } from "../../src/time.ts";
import { fileName, fileNameOf } from "../../src/workspace.ts";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { openRoughLine } from "../support/cluster/rough-line.ts";
import { runOps, Sink, source } from "../support/executor-kit.ts";
import { imageName, type TestImage } from "../support/images.ts";
import { imageNamed, plainVariable, requestOf, serviceNamed } from "./kubernetes-request.ts";
import { type KubernetesStand, openStand } from "./kubernetes-stand.ts";

const cluster = await useCluster();

const image = (name: TestImage): Image => imageNamed(imageName(name));
const service = (name: TestImage, parts: Partial<Service> = {}): Service => serviceNamed(imageName(name), parts);

/** Stops at each moment, settings that go together badly, jobs that mean harm, and many jobs at once. */
describe("jobs in pods at their limits", () => {
  if (cluster === null) {
    test.skip(`needs a cluster: ${noCluster}`, () => {});
    return;
  }
  let stand: KubernetesStand;
  beforeAll(async () => {
    await cluster.images("sh", "git", "helper", "user", "service");
    stand = await openStand(cluster);
  }, 300_000);
  afterAll(() => stand.close());

  const it = (title: string, body: () => Promise<void>): void => test(title, body, 180_000);
  const preparing = (parts: Partial<Job>, table: Readonly<Record<string, unknown>> = {}, signal = never) => {
    const executor = stand.open({}, table);
    onTestFinished(() => executor.close(never));
    const [notes, request] = [new Sink(), requestOf(parts)];
    const prepared = executor.prepare(request, notes, signal);
    prepared.catch(() => {});
    onTestFinished(async () => {
      const environment = await prepared.catch(() => null);
      await environment?.destroy(never);
    });
    return { prepared, notes, request };
  };
  const podsOf = async (jobKey: string): Promise<string> =>
    await cluster.kubectl(["get", "pods", "-n", stand.namespace, "-l", `alloy-runner.job-key=${jobKey}`, "-o", "name"]);
  const gone = async (jobKey: string): Promise<void> => {
    await expect.poll(() => podsOf(jobKey), { timeout: 15_000 }).toBe("");
  };

  it("a stop while the pod waits for a node, or for its image, is heeded at once, and the pod goes", async () => {
    const stop = new AbortController();
    const pending = preparing({ image: image("sh") }, { node_selector: { nowhere: "yes" } }, stop.signal);
    await pending.notes.until(/Waiting for pod/);
    const silent = createServer((socket) => void socket.on("error", () => {}));
    silent.listen(0, cluster.hostAddress);
    await once(silent, "listening");
    const address = silent.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    const place = `${cluster.hostAddress}:${address.port}`;
    await cluster.trustRegistry(place);
    const asked = once(silent, "connection");
    const pulling = preparing({ image: imageNamed(`${place}/no/image:1`) }, {}, stop.signal);
    const [socket] = await asked;
    const began = performance.now();
    stop.abort(new Stop("canceled", "canceled by the coordinator"));
    for (const { prepared } of [pending, pulling]) {
      await expect(prepared).rejects.toMatchObject({ why: "canceled" });
    }
    expect(performance.now() - began).toBeLessThan(10_000);
    await gone(pending.request.jobKey);
    // The node ends no pod whose image it still pulls.
    silent.removeAllListeners("connection").on("connection", (later) => later.destroy());
    socket.destroy();
    silent.close();
    await expect.poll(() => podsOf(pulling.request.jobKey), { timeout: 60_000 }).toBe("");
  });

  it("a stop while files go in or out is heeded at once", async () => {
    const environment = await preparing({ image: image("git") }).prepared;
    const { workspace } = environment;
    await runOps(environment, [{ op: "mkdir", path: workspace.root }], { runIn: "helper" });
    await runOps(environment, [{ op: "cd", path: workspace.root }, ...source("head -c 200000000 /dev/zero >big")]);
    const stop = new AbortController();
    const content = {
      name: fileName(Buffer.from("x")),
      kind: "file",
      size: 1e9,
      mode: 0o644,
      mtimeSeconds: 1,
    } as const;
    async function* endless(): AsyncGenerator<Buffer> {
      yield tarHeader({ ...content, target: fileNameOf("") });
      // It arrives slowly enough to be stopped in time by whoever is busy.
      for (;;) {
        await wait(2);
        yield Buffer.alloc(64 * 1024);
      }
    }
    const limits = { bytes: 2e9, entries: 1000, freeBytes: 0 };
    const unpacking = workspace.unpack(Readable.from(endless(), { objectMode: false }), limits, stop.signal);
    const { tar } = await workspace.pack([fileName(Buffer.from("big"))], stop.signal);
    const begun = once(tar, "data");
    const packing = finished(tar);
    packing.catch(() => {});
    await begun;
    stop.abort(new Stop("timed_out", "too long"));
    await expect(unpacking).rejects.toMatchObject({ why: "timed_out" });
    await expect(packing).rejects.toMatchObject({ why: "timed_out" });
    expect((await runOps(environment, source("pgrep tar || echo none"))).text).toBe("none\n");
  });

  it("a pod that waits for a node starts once there is one", async () => {
    const { prepared, notes } = preparing({ image: image("sh") }, { node_selector: { later: "yes" } });
    await notes.until(/Waiting for pod .*didn't match/);
    onTestFinished(async () => {
      await cluster.kubectl(["label", "node", "node1", "later-"]);
    });
    await cluster.kubectl(["label", "node", "node1", "later=yes"]);
    expect((await runOps(await prepared, source("echo ran"))).text).toBe("ran\n");
  });

  it("two services on one port are told apart, and the job goes on", async () => {
    const variables = [plainVariable("HEALTHCHECK_TCP_PORT", "8080")];
    const late = [
      "sh",
      "-c",
      "until busybox wget -q -O - http://127.0.0.1:8080/; do sleep 0.1; done; exec busybox httpd -f -p 8080",
    ];
    const { prepared, notes } = preparing({
      image: image("sh"),
      services: [service("service", { variables }), service("sh", { variables, command: late })],
    });
    const environment = await prepared;
    await notes.until(/it has ended with status 1\. .*two cannot have one port/);
    expect((await runOps(environment, source("echo ran"))).text).toBe("ran\n");
  });

  it("differing users share the checkout by a group, and nobody writes to the root of the file system", async () => {
    const { prepared } = preparing(
      { image: image("git") },
      {
        pod_security_context: { fs_group: 2000 },
        build_container_security_context: { run_as_user: 1001, read_only_root_filesystem: true },
        helper_container_security_context: { run_as_user: 1002, read_only_root_filesystem: true },
      },
    );
    const environment = await prepared;
    const { root } = environment.workspace;
    const made = await runOps(environment, [{ op: "mkdir", path: root }, ...source(`echo x >${root}/file; id -u`)], {
      runIn: "helper",
    });
    expect(made.text).toBe("1002\n");
    const said = source(
      `cd ${root}; echo y >>file; mkdir own; cat file; id -u; touch "$HOME/x"; touch /x 2>/dev/null || echo no`,
    );
    expect((await runOps(environment, said)).text).toBe("x\ny\n1001\nno\n");
  });

  it("an image that would run as root and may not is named, with what can be set", async () => {
    const { prepared } = preparing({ image: image("git") }, { pod_security_context: { run_as_non_root: true } });
    await expect(prepared).rejects.toMatchObject({
      reason: "runner_configuration_error",
      message: expect.stringMatching(/run_as_user in \[runners\.kubernetes\.pod_security_context\]/),
    });
  });

  it("a pod in the node's own network works", async () => {
    const patch = { name: "host", patch_type: "merge", patch: '{"hostNetwork": true}' };
    const alias = service("service", { aliases: ["web"] });
    const environment = await preparing({ image: image("git"), services: [alias] }, { pod_spec: [patch] }).prepared;
    expect((await runOps(environment, source("echo ran"))).text).toBe("ran\n");
  });

  it("files of a job that grow over a volume's limit are the job's failure", async () => {
    const volumes = { empty_dir: [{ name: "small", mount_path: "/small", size_limit: "10Mi" }] };
    const environment = await preparing({ image: image("git") }, { volumes }).prepared;
    const ran = runOps(environment, source("head -c 80000000 /dev/zero >/small/x", "sleep 150"));
    await expect(ran).rejects.toBeInstanceOf(ScriptFailure);
    await expect(ran).rejects.toThrow(/The node evicted the job's pod: .*small/);
  });

  it("what a job writes into its pod's description is refused with a sentence, or made harmless", async () => {
    const open = { pod_labels_overwrite_allowed: "[^]*", node_selector_overwrite_allowed: ".*" };
    const variable = (key: string, value: string) => ({ variables: [plainVariable(key, value)] });
    const error = async (parts: Partial<Job>): Promise<unknown> =>
      await preparing({ image: image("sh"), ...parts }, open).prepared.catch((reason: unknown) => reason);
    const long = await error(variable("KUBERNETES_NODE_SELECTOR_1", `a=${"x".repeat(8000)}`));
    expect(long).toMatchObject({ message: expect.stringMatching(/KUBERNETES_NODE_SELECTOR_1/) });
    expect(String(long).length).toBeLessThan(500);
    expect(await error({ image: imageNamed("a image:1") })).toMatchObject({
      message: expect.stringMatching(/a image:1/),
    });
    expect(await error({ services: [service("sh", { aliases: ["a_b c"] })] })).toBeInstanceOf(ScriptFailure);
    expect(await error({ services: [service("sh", { aliases: ["localhost"] })] })).toBeInstanceOf(ScriptFailure);
    const { prepared, request } = preparing(
      {
        image: image("sh"),
        ...variable("KUBERNETES_POD_LABELS_1", "k=v\n"),
      },
      open,
    );
    expect((await runOps(await prepared, source("echo ran"))).text).toBe("ran\n");
    const label = [
      "get",
      "pods",
      "-n",
      stand.namespace,
      "-l",
      `k=v,alloy-runner.job-key=${request.jobKey}`,
      "-o",
      "name",
    ];
    expect(await cluster.kubectl(label)).toMatch(/^pod\//);
  });

  it("a script that removes the runner's own files has failed, and does not hang", async () => {
    const environment = await preparing({ image: image("git") }).prepared;
    await expect(runOps(environment, source("rm -rf /alloy-runner/*; sleep 600"))).rejects.toThrow(
      /removed the runner's own files/,
    );
  });

  it("twenty jobs at once run, and each asks the API server for no more than it needs", async () => {
    const account = ["--clusterrole=cluster-admin", `--serviceaccount=${stand.namespace}:default`];
    await cluster.kubectl(["create", "rolebinding", "all", "-n", stand.namespace, ...account]);
    const token = (await cluster.kubectl(["create", "token", "default", "-n", stand.namespace])).trim();
    const line = await openRoughLine(cluster.server);
    onTestFinished(() => line.close());
    const executor = stand.open({}, { host: line.address, bearer_token: token });
    onTestFinished(() => executor.close(never));
    const one = async (index: number): Promise<string> => {
      const environment = await executor.prepare(requestOf({ image: image("git") }), new Sink(), never);
      try {
        return (await runOps(environment, source(`echo ${index}`))).text;
      } finally {
        await environment.destroy(never);
      }
    };
    const texts = await Promise.all(Array.from({ length: 20 }, (_, index) => one(index)));
    expect(texts).toEqual(Array.from({ length: 20 }, (_, index) => `${index}\n`));
    expect(line.asked.length / 20).toBeLessThan(25);
    expect(line.answers.filter((answer) => answer.includes(" 429 "))).toEqual([]);
  });
});
