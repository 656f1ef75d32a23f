import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { ScriptFailure, SystemFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { Image, Job, Service } from "../../src/job/job.ts";
import { never } from "../../src/time.ts";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { runOps, Sink, source } from "../support/executor-kit.ts";
import { imageName, type TestImage } from "../support/images.ts";
import { imageNamed, plainVariable, requestOf, serviceNamed } from "./kubernetes-request.ts";
import { type KubernetesStand, openStand } from "./kubernetes-stand.ts";

const cluster = await useCluster();

const image = (name: TestImage): Image => imageNamed(imageName(name));
const service = (name: TestImage, parts: Partial<Service> = {}): Service => serviceNamed(imageName(name), parts);

describe("jobs in pods", () => {
  if (cluster === null) {
    test.skip(`needs a cluster: ${noCluster}`, () => {});
    return;
  }
  let stand: KubernetesStand;
  beforeAll(async () => {
    await cluster.images("sh", "git", "helper", "user", "entrypoint", "empty", "service");
    stand = await openStand(cluster);
  }, 300_000);
  afterAll(() => stand.close());

  const it = (title: string, body: () => Promise<void>): void => test(title, body, 120_000);
  const opened = (table: Readonly<Record<string, unknown>> = {}, where = stand): Executor => {
    const executor = where.open({}, table);
    onTestFinished(() => executor.close(never));
    return executor;
  };
  const prepared = async (
    parts: Partial<Job>,
    table: Readonly<Record<string, unknown>> = {},
    where = stand,
  ): Promise<{ environment: Environment; notes: Sink; request: ReturnType<typeof requestOf> }> => {
    const notes = new Sink();
    const request = requestOf(parts);
    const environment = await opened(table, where).prepare(request, notes, never);
    onTestFinished(() => environment.destroy(never));
    return { environment, notes, request };
  };
  const failing = async (parts: Partial<Job>, table: Readonly<Record<string, unknown>> = {}, where = stand) => {
    const notes = new Sink();
    const error: unknown = await opened(table, where)
      .prepare(requestOf(parts), notes, never)
      .then(
        (environment) => environment.destroy(never),
        (reason: unknown) => reason,
      );
    return { error, notes: notes.text };
  };
  const podOf = async (jobKey: string, where = stand) => {
    const selector = `alloy-runner.job-key=${jobKey}`;
    const text = await cluster.kubectl(["get", "pods", "-n", where.namespace, "-l", selector, "-o", "json"]);
    return JSON.parse(text).items[0];
  };

  it("services answer at the names of image and alias, and never see what is the job's own", async () => {
    const { environment } = await prepared({
      image: image("git"),
      services: [
        service("service", { aliases: ["web"], variables: [plainVariable("HEALTHCHECK_TCP_PORT", "8080")] }),
        service("sh", { command: ["sh", "-c", "ls / >/builds/seen; env >/builds/env; sleep 1000"] }),
      ],
      variables: [
        { ...plainVariable("OPEN", "costs $(HOME) $$5"), raw: true },
        { ...plainVariable("SECRET", "hidden"), public: false },
      ],
    });
    const get = "exec 3<>/dev/tcp/web/8080; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; tail -n 1 <&3";
    expect((await runOps(environment, source(`bash -c "${get.replaceAll('"', '\\"')}"`))).text).toContain("hello");
    const { text } = await runOps(
      environment,
      source("while [ ! -s /builds/env ]; do sleep 0.1; done; cat /builds/seen /builds/env"),
    );
    expect(text.split("\n")).toContain("builds");
    expect(text.split("\n")).not.toContain("alloy-runner");
    expect(text).not.toContain("hidden");
    expect(text).toContain("\nOPEN=costs $(HOME) $$5\n");
  });

  it("what services print is in the trace where a job wants to see it, whole and once", async () => {
    const { environment, notes } = await prepared({
      image: image("sh"),
      services: [
        service("sh", {
          command: [
            "sh",
            "-c",
            "n=0; while [ $n -lt 500 ]; do n=$((n+1)); echo line $n; done; until [ -e /builds/more ]; do sleep 0.1; done; echo and more; sleep 1000",
          ],
        }),
      ],
      variables: [plainVariable("CI_DEBUG_SERVICES", "true")],
    });
    await notes.until(/line 500\n/);
    await runOps(environment, source("touch /builds/more"));
    await notes.until(/and more\n/);
    const said = notes.text.split("\n").filter((line) => line.startsWith("[service:"));
    expect(said).toEqual([
      ...Array.from({ length: 500 }, (_, n) => `[service:${imageName("sh")}] line ${n + 1}`),
      `[service:${imageName("sh")}] and more`,
    ]);
  });

  it("nothing of a job's variables is in its pod, and labels and annotations say whose it is", async () => {
    const { request } = await prepared(
      {
        image: image("sh"),
        variables: [plainVariable("TOKEN", "very-secret"), plainVariable("KUBERNETES_POD_LABELS_1", "team=a b/c")],
      },
      { pod_labels: { own: "$CI_X yes" }, pod_labels_overwrite_allowed: "team=.*" },
    );
    const pod = await podOf(request.jobKey);
    expect(JSON.stringify(pod)).not.toContain("very-secret");
    expect(pod.metadata.labels).toMatchObject({ team: "a_b_c", own: "yes", "alloy-runner.role": "job" });
    expect(pod.metadata.annotations).toMatchObject({ "job.runner.gitlab.com/ref": request.job.git.ref });
    expect(pod.spec).toMatchObject({ automountServiceAccountToken: false, enableServiceLinks: false });
  });

  it("what a job may not choose is refused before anything is made, with its key", async () => {
    const choose = (key: string, value: string) => ({ image: image("sh"), variables: [plainVariable(key, value)] });
    const table = { namespace_overwrite_allowed: "ci-", memory_limit_overwrite_max_allowed: "1Gi" };
    const refused = async (key: string, value: string) => (await failing(choose(key, value), table)).error;
    expect(await refused("KUBERNETES_NAMESPACE_OVERWRITE", "kube-system")).toMatchObject({
      message: expect.stringMatching(/KUBERNETES_NAMESPACE_OVERWRITE is "kube-system".*namespace_overwrite_allowed/),
    });
    expect(await refused("KUBERNETES_NAMESPACE_OVERWRITE", "ci-team")).toMatchObject({
      message: expect.stringMatching(/has to cover all of it/),
    });
    expect(await refused("KUBERNETES_MEMORY_LIMIT", "1025Mi")).toBeInstanceOf(ScriptFailure);
    expect(await refused("KUBERNETES_MEMORY_LIMIT", "lots")).toBeInstanceOf(ScriptFailure);
    const { request, notes } = await prepared(choose("KUBERNETES_MEMORY_LIMIT", "1Gi"), table);
    expect((await podOf(request.jobKey)).spec.containers[0].resources).toEqual({
      limits: { memory: "1Gi" },
      requests: { memory: "1Gi" },
    });
    expect(notes.text).toContain("KUBERNETES_MEMORY_LIMIT of the job: 1Gi");
  });

  it("an image whose user is not root works, and what the helper made is that user's", async () => {
    const { environment } = await prepared({ image: image("user") });
    const { root } = environment.workspace;
    await runOps(
      environment,
      [{ op: "mkdir", path: root }, ...source(`mkdir ${root}/made; echo x >${root}/made/file`)],
      {
        runIn: "helper",
      },
    );
    const { code, text } = await runOps(
      environment,
      source(`cd ${root}/made`, "id -u", "echo y >>file", "cat file", "rm -r ../made"),
    );
    expect({ code, text }).toEqual({ code: 0, text: "1000\nx\ny\n" });
  });

  it("a namespace under Pod Security restricted gets pods without root", async () => {
    const restricted = await openStand(cluster, { "pod-security.kubernetes.io/enforce": "restricted" });
    onTestFinished(() => restricted.close());
    const looks = service("sh", { command: ["sh", "-c", "ls / >/builds/seen; id -u >/builds/who; sleep 1000"] });
    const { environment, notes, request } = await prepared({ image: image("git"), services: [looks] }, {}, restricted);
    expect(notes.text).toContain("admits only restricted pods");
    const { root } = environment.workspace;
    const { text } = await runOps(environment, [
      { op: "cd", path: root },
      ...source("id -u", "touch file && echo written", 'echo "$HOME"; touch "$HOME/x" && echo home'),
    ]);
    expect(text).toMatch(/^1000\nwritten\n.+\nhome\n$/);
    const seen = source("while [ ! -s /builds/who ]; do sleep 0.1; done; cat /builds/who /builds/seen");
    const lines = (await runOps(environment, seen)).text.split("\n");
    expect(lines).toEqual(expect.arrayContaining(["1000", "builds"]));
    expect(lines).not.toContain("alloy-runner");
    expect((await podOf(request.jobKey, restricted)).spec.containers[0].securityContext).toMatchObject({
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"] },
    });
  });

  it("an entrypoint runs, and what it exports is the scripts'", async () => {
    const { environment } = await prepared({
      image: {
        ...image("git"),
        entrypoint: ["sh", "-c", 'FROM_ENTRYPOINT="a b"; export FROM_ENTRYPOINT; exec "$@"', "entry"],
      },
    });
    expect((await runOps(environment, source('echo "$FROM_ENTRYPOINT"'))).text).toBe("a b\n");
  });

  it("images without a shell, or that are nowhere, fail with what can be done about it", async () => {
    const empty = await failing({ image: image("empty") });
    expect(empty.error).toBeInstanceOf(ScriptFailure);
    expect(empty.error).toMatchObject({ message: expect.stringMatching(/has no shell: jobs need sh/) });
    const never_ = await failing({ image: imageNamed("alloy.test/nowhere:1") }, { pull_policy: "never" });
    expect(never_.error).toMatchObject({ reason: "image_pull_failure", retry: false });
    const bad = await failing({ image: imageNamed("Not An Image") });
    expect(bad.error).toBeInstanceOf(ScriptFailure);
    await vi.waitFor(async () => expect(await stand.names("pods")).toEqual([]), { timeout: 30_000, interval: 300 });
  });

  it("the next pull policy is tried where one fails", async () => {
    // The registry does not answer, but the image is in the node.
    const { environment, notes } = await prepared(
      { image: image("sh") },
      { pull_policy: ["always", "if-not-present"] },
    );
    expect(notes.text).toMatch(/Cannot pull the image .* Trying with pull policy if-not-present/);
    expect((await runOps(environment, source("echo ran"))).text).toBe("ran\n");
  });

  it("logins go to the cluster in a secret that goes with the job", async () => {
    const registry = await cluster.registry();
    const pushed = await registry.push(imageName("sh"), "private:1");
    const credentials = [
      { type: "registry", url: registry.address, username: registry.username, password: registry.password },
    ];
    const { environment } = await prepared({ image: imageNamed(pushed), credentials });
    expect((await runOps(environment, source("echo pulled"))).text).toBe("pulled\n");
    expect(await stand.names("secrets")).toHaveLength(1);
    await environment.destroy(never);
    expect(await stand.names("secrets")).toEqual([]);
    const other = await registry.push(imageName("sh"), "private:2");
    const without = await failing({ image: imageNamed(other) });
    expect(without.error).toMatchObject({ reason: "image_pull_failure" });
  });

  it("a job that no node has room for fails in time, and says why it waits", async () => {
    const { error, notes } = await failing(
      { image: image("sh") },
      { node_selector: { nowhere: "yes" }, poll_timeout: 3 },
    );
    expect(error).toBeInstanceOf(SystemFailure);
    expect(error).toMatchObject({ message: expect.stringMatching(/No node had room .*poll_timeout/) });
    expect(notes).toMatch(/Waiting for pod .*node\(s\) didn't match/);
  });

  it("memory that runs out is named with the limit", async () => {
    const { environment } = await prepared({ image: image("git") }, { memory_limit: "64Mi" });
    const output = new Sink();
    const { code } = await runOps(environment, source("head -c 300000000 /dev/zero | tail -c 300000000 | wc -c"), {
      output,
    });
    expect(code).not.toBe(0);
    expect(output.text).toMatch(/Out of memory: .*64Mi \(memory_limit/);
  });

  it("a pod that somebody deletes is no script's death by signal", async () => {
    for (const how of [["--grace-period=0", "--force"], ["--grace-period=2"]]) {
      const { environment, request } = await prepared({ image: image("git") });
      const output = new Sink();
      const running = runOps(environment, source("echo begun; sleep 60"), { output });
      running.catch(() => {});
      await output.until(/begun/);
      const { name } = (await podOf(request.jobKey)).metadata;
      await cluster.kubectl(["delete", "pod", "-n", stand.namespace, name, "--wait=false", ...how]);
      await expect(running).rejects.toBeInstanceOf(SystemFailure);
      await expect(running).rejects.toThrow(/Somebody has deleted the job's pod/);
    }
  });

  it("a login without rights is told which, before anything is made", async () => {
    const { namespace } = stand;
    await cluster.kubectl(["create", "serviceaccount", "poor", "-n", namespace]);
    await cluster.kubectl(["create", "role", "poor", "-n", namespace, "--verb=create,get,delete", "--resource=pods"]);
    await cluster.kubectl([
      "create",
      "rolebinding",
      "poor",
      "-n",
      namespace,
      "--role=poor",
      `--serviceaccount=${namespace}:poor`,
    ]);
    const token = (await cluster.kubectl(["create", "token", "poor", "-n", namespace])).trim();
    const login = { host: cluster.server, bearer_token: token, ca_file: cluster.authority.certFile };
    const { error } = await failing({ image: image("sh") }, login);
    expect(error).toMatchObject({
      reason: "runner_configuration_error",
      message: expect.stringMatching(/may not create pods\/exec, get pods\/exec in the namespace/),
    });
  });

  it("a clean-up may take as long as cleanup_resources_timeout says", async () => {
    const { environment } = await prepared({ image: image("sh") }, { cleanup_resources_timeout: "2m" });
    expect(environment.destroyMs).toBe(120_000);
  });

  it("a place whose clean-up failed is the next job's once a sweep has removed the pod", async () => {
    const executor = opened();
    const place = async () => {
      const environment = await executor.prepare(requestOf({ image: image("sh") }), new Sink(), never);
      onTestFinished(() => environment.destroy(never));
      return environment;
    };
    const first = await place();
    await expect(first.destroy(AbortSignal.abort(new Error("no time")))).rejects.toThrow("no time");
    const second = await place();
    expect([first.projectSlot, second.projectSlot]).toEqual([0, 1]);
    const slotOfNext = async (): Promise<number> => {
      const next = await place();
      await next.destroy(never);
      return next.projectSlot;
    };
    await expect.poll(slotOfNext, { timeout: 60_000, interval: 1000 }).toBe(0);
  });

  it("patches change the pod, and may not take away what jobs stand on", async () => {
    const sidecar = { containers: [{ name: "sidecar", image: imageName("sh"), command: ["sleep", "1000"] }] };
    const { environment } = await prepared(
      { image: image("sh") },
      { pod_spec: [{ name: "sidecar", patch: JSON.stringify(sidecar) }] },
    );
    expect((await runOps(environment, source("echo ran"))).text).toBe("ran\n");
    const broken = { name: "bad", patch_type: "json", patch: '[{"op": "remove", "path": "/containers/1"}]' };
    const { error } = await failing({ image: image("sh") }, { pod_spec: [broken] });
    expect(error).toMatchObject({ message: expect.stringMatching(/patch "bad".*takes away what jobs stand on/) });
  });

  it("after a crash pod and secret of the job are removed, and nobody else's", async () => {
    const executor = stand.open();
    const one = requestOf({ image: image("sh") });
    const other = await prepared({ image: image("sh") });
    await executor.prepare(one, new Sink(), never);
    // The process that made the pod is gone; another process gets its notes.
    const successor = opened();
    const { done, left } = await successor.recover(one.jobKey, one.notes, never);
    expect({ done, left }).toEqual({ done: ["removed 1 pod and what ran in it"], left: [] });
    expect(await podOf(one.jobKey)).toBeUndefined();
    expect((await runOps(other.environment, source("echo alive"))).text).toBe("alive\n");
    await executor.close(never);
  });
});
