import { randomBytes } from "node:crypto";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll } from "vitest";
import type { TestImage } from "../images.ts";
import { startRegistry, type TestRegistry } from "../registry.ts";
import { bringImage, bringImages, type OwnImage } from "./images.ts";
import { type Node, nodeAt, outputOf, type Part, reserveNode, started } from "./node.ts";

export type { Part } from "./node.ts";

/** A real Kubernetes of one node on this machine. */
export interface TestCluster {
  /** Path of the administrator's kubeconfig. */
  readonly kubeconfig: string;
  /** `https://10.200.0.2:6443` */
  readonly server: string;
  /** Pods reach servers of this machine if these listen at this address. */
  readonly hostAddress: string;
  /** The certificate and the key of the authority that the API server trusts for clients, too. */
  readonly authority: { readonly certFile: string; readonly keyFile: string };
  /** The folder of its parts' logs. */
  readonly logs: string;
  /**
   * Runs kubectl as the administrator and returns its output.
   * @throws {Error} it fails; with what it said
   */
  kubectl(args: readonly string[], input?: string): Promise<string>;
  /**
   * Makes a namespace in which pods can be made at once. It is removed with everything in it after the file's tests.
   */
  createNamespace(labels?: Readonly<Record<string, string>>): Promise<string>;
  /** Brings test images into the node; pods name them as `imageName` does. */
  images(...wanted: readonly TestImage[]): Promise<void>;
  image(image: OwnImage): Promise<void>;
  /** Has the node pull from the registry that a test serves at this address of this machine, without TLS. */
  trustRegistry(address: string): Promise<void>;
  /** A registry that the node pulls from; with a password, unless it is `open`. Closed after the file's tests. */
  registry(options?: { open?: boolean }): Promise<ClusterRegistry>;
  /** Ends a part with a signal. It is started again by itself. Only for a cluster of the file's own. */
  kill(part: Part, signal?: "KILL" | "TERM" | "STOP" | "CONT"): Promise<void>;
  /** Ends a part and keeps it down until the returned function is called. */
  hold(part: Part): Promise<() => Promise<void>>;
  /** Resolves once API server and node answer. */
  ready(): Promise<void>;
}

/** A registry that only the cluster's node knows. */
export interface ClusterRegistry extends Pick<TestRegistry, "address" | "username" | "password"> {
  /** Puts a test image into it, as `ADDRESS/name`. The node does not have the image then. */
  push(image: string, name: string): Promise<string>;
}

/** Why tests that need a cluster are skipped. */
export const noCluster = "no cluster is there (bash test/support/cluster/cluster.sh start)";

/**
 * The cluster of this test run, shared with other files, or `null` where there is none; say then why tests are skipped:
 * `noCluster`. Where one is still being built, this waits for it. To be called where a file's tests are declared.
 * @param options.own boots one for this file, in which parts may be killed
 * @throws {Error} there is none, and CI=true; or it could not be started
 */
export async function useCluster(options: { own?: boolean } = {}): Promise<TestCluster | null> {
  const shared = Number(process.env.ALLOY_TEST_CLUSTER ?? 0);
  if (!(await started(shared))) {
    if (process.env.CI === "true") throw new Error(noCluster);
    return null;
  }
  if (options.own !== true) return openCluster(nodeAt(shared), async () => {});
  const node = await reserveNode();
  await node.run("start", "--owner", String(process.pid));
  return openCluster(node, async () => {
    await node.run("stop");
  });
}

function openCluster(node: Node, close: () => Promise<void>): TestCluster {
  const kubeconfig = join(node.state, "logins/admin.conf");
  const hostAddress = `10.200.${node.number}.1`;
  const leavings: (() => Promise<void>)[] = [];
  const kubectl: TestCluster["kubectl"] = (args, input) =>
    outputOf(join(node.state, "bin/kubectl"), args, { ...process.env, KUBECONFIG: kubeconfig }, input);
  const trustRegistry: TestCluster["trustRegistry"] = async (address) => {
    const folder = join(node.state, "registries", address);
    await mkdir(folder);
    leavings.push(() => rm(folder, { recursive: true, force: true }));
    await writeFile(
      join(folder, "hosts.toml"),
      `server = "http://${address}"\n[host."http://${address}"]\ncapabilities = ["pull", "resolve"]\n`,
    );
  };
  afterAll(async () => {
    try {
      await Promise.all(leavings.map((remove) => remove()));
    } finally {
      await close();
    }
  }, 120_000);
  return {
    kubeconfig,
    server: `https://10.200.${node.number}.2:6443`,
    hostAddress,
    authority: { certFile: join(node.state, "pki/ca.crt"), keyFile: join(node.state, "pki/ca.key") },
    logs: join(node.state, "log"),
    kubectl,
    async createNamespace(labels = {}) {
      const name = `test-${randomBytes(4).toString("hex")}`;
      const manifest = { apiVersion: "v1", kind: "Namespace", metadata: { name, labels } };
      await kubectl(["create", "-f", "-"], JSON.stringify(manifest));
      leavings.push(async () => {
        await kubectl(["delete", "pods", "--all", "--force", "--grace-period=0", "-n", name]);
        await kubectl(["delete", "namespace", name]);
      });
      // A pod needs this account, which exists a moment after the namespace.
      await kubectl(["wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=60s"]);
      return name;
    },
    images: (...wanted) => bringImages(node, wanted),
    image: (image) => bringImage(node, image),
    trustRegistry,
    async registry(options = {}) {
      const registry = await startRegistry({ host: hostAddress, open: options.open ?? false });
      leavings.push(() => registry.close());
      const { address, username, password } = registry;
      await trustRegistry(address);
      return {
        address,
        username,
        password,
        async push(image, name) {
          const pushed = `${address}/${name}`;
          await node.ctr("images", "tag", `docker.io/${image}`, pushed);
          await node.ctr("images", "push", "--plain-http", "--user", `${username}:${password}`, pushed);
          await node.ctr("images", "rm", pushed);
          return pushed;
        },
      };
    },
    async kill(part, signal = "KILL") {
      await node.run("kill", part, signal);
    },
    async hold(part) {
      await node.run("hold", part);
      return async () => {
        await node.run("release", part);
      };
    },
    async ready() {
      const until = Date.now() + 60_000;
      const asks = ["get", "node", "node1", "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'];
      for (;;) {
        if ((await kubectl(["--request-timeout=5s", ...asks]).catch(() => "")) === "True") return;
        if (Date.now() > until) throw new Error(`the cluster does not come back; its logs: ${node.state}/log`);
        await wait(100);
      }
    },
  };
}
