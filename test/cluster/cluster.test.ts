import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { nodeAt, reserveNode } from "../support/cluster/node.ts";
import { imageName, type TestImage } from "../support/images.ts";
import { isAlive } from "../support/processes.ts";

const cluster = await useCluster({ own: true });

interface PodOptions {
  readonly namespace: string;
  readonly name: string;
  readonly image: string;
  readonly more?: Readonly<Record<string, unknown>>;
  readonly spec?: Readonly<Record<string, unknown>>;
}

/** The manifest of a pod with one container that runs until it is told to end. */
function pod({ namespace, name, image, more, spec }: PodOptions): string {
  const command = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"];
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace },
    spec: { restartPolicy: "Never", containers: [{ name: "main", image, command, ...more }], ...spec },
  });
}

describe("a cluster", () => {
  if (cluster === null) {
    test.skip(noCluster, () => {});
    return;
  }
  const { kubectl } = cluster;

  async function run(image: string, namespace: string, options: Partial<PodOptions> = {}): Promise<string> {
    const name = options.name ?? "pod";
    await kubectl(["create", "-f", "-"], pod({ namespace, name, image, ...options }));
    await kubectl(["wait", "--for=condition=Ready", `pod/${name}`, "-n", namespace, "--timeout=60s"]);
    return name;
  }

  async function status(namespace: string, name: string, script: string): Promise<number> {
    const exec = ["exec", "-n", namespace, name, "--", "sh", "-c", script];
    return await kubectl(exec).then(
      () => 0,
      (error: Error) => {
        const code = /exit code (\d+)/.exec(error.message)?.[1];
        if (code === undefined) throw error;
        return Number(code);
      },
    );
  }

  test.each<[TestImage, string]>([
    ["sh", "! command -v bash && ! command -v git"],
    ["git", "command -v bash && git --version"],
    ["helper", "! command -v bash && git --version"],
  ])("runs a pod of the image %s, and says how a program in it ended", async (image, script) => {
    await cluster.images(image);
    const namespace = await cluster.createNamespace();
    const name = await run(imageName(image), namespace);
    expect(await status(namespace, name, script)).toBe(0);
    expect(await status(namespace, name, "exit 42")).toBe(42);
  });

  test("takes a pod of uid 1000 where security is restricted, and none of root's", async () => {
    await cluster.images("user", "sh");
    const namespace = await cluster.createNamespace({ "pod-security.kubernetes.io/enforce": "restricted" });
    const more = { securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } } };
    const spec = { securityContext: { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } } };
    const name = await run(imageName("user"), namespace, { more, spec });
    expect(await kubectl(["exec", "-n", namespace, name, "--", "id", "-u"])).toBe("1000\n");
    await expect(run(imageName("sh"), namespace, { name: "root" })).rejects.toThrow(/violates PodSecurity/);
  });

  test("says that an image has no shell", async () => {
    await cluster.images("empty");
    const namespace = await cluster.createNamespace();
    await kubectl(["create", "-f", "-"], pod({ namespace, name: "pod", image: imageName("empty") }));
    const reason = "jsonpath={.status.containerStatuses[0].state.terminated.reason}";
    await kubectl(["wait", `--for=${reason}=StartError`, "pod/pod", "-n", namespace, "--timeout=60s"]);
  });

  test("pulls from a registry without a password, and from one with it only for those who know it", async () => {
    await cluster.images("sh");
    const namespace = await cluster.createNamespace();
    const open = await cluster.registry({ open: true });
    await run(await open.push(imageName("sh"), "open:1"), namespace, { name: "open" });

    const locked = await cluster.registry();
    const image = await locked.push(imageName("sh"), "locked:1");
    await kubectl(["create", "-f", "-"], pod({ namespace, name: "refused", image }));
    const reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}";
    await kubectl(["wait", `--for=${reason}=ErrImagePull`, "pod/refused", "-n", namespace, "--timeout=60s"]);
    const login = [`--docker-server=${locked.address}`, `--docker-username=${locked.username}`];
    await kubectl([
      ...["create", "secret", "docker-registry", "login", "-n", namespace],
      ...[...login, `--docker-password=${locked.password}`],
    ]);
    await run(image, namespace, { name: "known", spec: { imagePullSecrets: [{ name: "login" }] } });
  });

  test("pods reach a server of this machine", async () => {
    await cluster.images("sh");
    const namespace = await cluster.createNamespace();
    const name = await run(imageName("sh"), namespace);
    const { address } = await cluster.registry({ open: true });
    expect(await status(namespace, name, `wget -q -O /dev/null http://${address}/v2/`)).toBe(0);
  });

  test.each(["apiserver", "kubelet", "containerd"] as const)("%s comes back after it was killed", async (part) => {
    await cluster.images("sh");
    const namespace = await cluster.createNamespace();
    const name = await run(imageName("sh"), namespace);
    await cluster.kill(part);
    await cluster.ready();
    await expect.poll(() => status(namespace, name, "exit 7").catch(() => null), { timeout: 60_000 }).toBe(7);
  });

  test("a part can be kept down", async () => {
    const release = await cluster.hold("apiserver");
    await expect(kubectl(["--request-timeout=5s", "get", "nodes"])).rejects.toThrow(/refused/);
    await release();
    await cluster.ready();
  });
});

describe.skipIf(cluster === null)("a cluster's end", async () => {
  const node = cluster === null ? nodeAt(0) : await reserveNode();

  /** What is left of that cluster on this machine: processes, mounts, cgroups, its link, its files. */
  async function remains(): Promise<string[]> {
    const found: string[] = [];
    for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
      const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      if (command.includes(node.state) && isAlive(pid)) found.push(command.replaceAll("\0", " "));
    }
    if ((await readFile("/proc/self/mounts", "utf8")).includes(node.state)) found.push("a mount");
    const links = await promisify(execFile)("ip", ["-o", "link"]);
    if (links.stdout.includes(`alloyk8s${node.number}`)) found.push("a link");
    for (const group of ["", ...(await readdir("/sys/fs/cgroup"))]) {
      const path = join("/sys/fs/cgroup", group, `alloy-test-cluster-${node.number}`);
      if (existsSync(path)) found.push(path);
    }
    if (existsSync(node.state)) found.push(node.state);
    return found;
  }

  async function bootWithPod(owner: number): Promise<void> {
    await node.run("start", "--owner", String(owner));
    const kubectl = async (args: string[]): Promise<void> => {
      await promisify(execFile)(join(node.state, "bin/kubectl"), [
        ...["--kubeconfig", join(node.state, "logins/admin.conf")],
        ...args,
      ]);
    };
    await kubectl(["run", "pod", "--image=localhost/pause:1", "--image-pull-policy=Never"]);
    await kubectl(["wait", "--for=condition=Ready", "pod/pod", "--timeout=60s"]);
  }

  test("leaves nothing behind, with a pod running", { timeout: 180_000 }, async () => {
    await bootWithPod(process.pid);
    expect(await remains()).not.toEqual([]);
    await node.run("stop");
    expect(await remains()).toEqual([]);
  });

  test("one whose test run was killed is removed by the next start", { timeout: 180_000 }, async () => {
    const testRun = spawn("sleep", ["1000"]);
    const ended = new Promise((resolve) => testRun.once("close", resolve));
    await bootWithPod(testRun.pid ?? 0);
    await node.run("sweep");
    expect(await remains()).not.toEqual([]);
    testRun.kill("SIGKILL");
    await ended;
    await node.run("sweep");
    expect(await remains()).toEqual([]);
  });
});
