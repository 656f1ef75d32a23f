import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, realpath, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { imageName, imageRecipe } from "../support/images.ts";
import { program } from "../support/program.ts";

/** The runner as it is packaged for a cluster: the built binary in a pod that kustomize's base describes. */

const cluster = await useCluster();
const base = join(import.meta.dirname, "../../packaging/kubernetes");

/** What an operator adds to it besides. */
interface Overlay {
  /** Lines of config.toml for all entries. */
  readonly config?: string;
  readonly components?: readonly string[];
  readonly patches?: readonly { readonly patch: string }[];
}

/** The command of the hook that docs/restarts.md shows. */
function commandOnPage(key: string): readonly string[] {
  const page = readFileSync(join(import.meta.dirname, "../../docs/restarts.md"), "utf8");
  const line = page.split("\n").find((one) => one.startsWith(key)) ?? "";
  return hook.parse(parse(line)).lifecycle.preStop.exec.command;
}
const hook = z.object({
  lifecycle: z.object({ preStop: z.object({ exec: z.object({ command: z.array(z.string()) }) }) }),
});

describe.skipIf(cluster === null)(cluster === null ? noCluster : "the packaged runner in a cluster", () => {
  const kubectl = async (...args: readonly string[]): Promise<string> => (await cluster?.kubectl(args)) ?? "";
  let dir: string;
  let coordinator: LocalCoordinator;
  let image: string;

  /** An image of the binary as packaging/Containerfile makes it, as far as the base relies on that. */
  async function makeImage(): Promise<string> {
    const [binary] = program();
    const { mtimeMs, size } = await stat(binary);
    const recipe = imageRecipe("git");
    const root = [...recipe.root, "tini", "--copy", `/usr/local/bin/alloy-runner=${binary}`];
    const changes = [...recipe.changes, "STOPSIGNAL SIGQUIT"];
    const tag = createHash("sha256")
      .update(JSON.stringify([mtimeMs, size, root, changes]))
      .digest("hex")
      .slice(0, 8);
    const name = `docker.io/alloy-test/runner:${tag}`;
    await cluster?.image({ name, root, changes });
    return name;
  }

  /** Applies the base with the settings that an operator adds to it. */
  async function apply(concurrent: number, { config: more = "", ...kustomize }: Overlay = {}): Promise<void> {
    const config = `concurrent = ${concurrent}
${more}
check_interval = 1
state_dir = "/var/lib/alloy-runner/state"
[[runners]]
name = "in-a-pod"
url = "$CI_SERVER_URL"
token = "$CI_SERVER_TOKEN"
executor = "kubernetes"
[runners.kubernetes]
namespace = "alloy-runner-jobs"
image = "${imageName("sh")}"
helper_image = "${imageName("git")}"
pull_policy = "if-not-present"
`;
    await writeFile(join(dir, "config.toml"), config);
    const [newName, newTag] = image.split(/:(?=[^:]*$)/);
    const kustomization = {
      apiVersion: "kustomize.config.k8s.io/v1beta1",
      kind: "Kustomization",
      resources: [relative(dir, base)],
      images: [{ name: "alloy-runner", newName, newTag }],
      configMapGenerator: [
        { name: "alloy-runner", namespace: "alloy-runner", behavior: "replace", files: ["config.toml"] },
      ],
      secretGenerator: [
        {
          name: "alloy-runner",
          namespace: "alloy-runner",
          literals: [`CI_SERVER_URL=${coordinator.url}`, `REGISTRATION_TOKEN=${coordinator.registrationToken}`],
        },
      ],
      ...kustomize,
    };
    await writeFile(join(dir, "kustomization.yaml"), JSON.stringify(kustomization));
    await kubectl("apply", "-k", dir);
  }

  const podSchema = z.object({ metadata: z.object({ name: z.string(), deletionTimestamp: z.string().optional() }) });
  const podsSchema = z.object({ items: z.array(podSchema) });
  const runners = async () =>
    podsSchema.parse(JSON.parse(await kubectl("get", "pods", "-n", "alloy-runner", "-o", "json"))).items;

  beforeAll(async () => {
    if (cluster === null) return;
    dir = await realpath(await mkdtemp(join(tmpdir(), "alloy-packaging-")));
    coordinator = await startCoordinator({ dialect: "alloy", host: cluster.hostAddress });
    await cluster.images("sh", "git");
    image = await makeImage();
    // The cluster has no provisioner, and the pod's group does not change the owner of a host's directory.
    const state = join(dir, "state");
    await mkdir(state);
    await chmod(state, 0o777);
    const volume = {
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name: "alloy-runner-test" },
      spec: { capacity: { storage: "5Gi" }, accessModes: ["ReadWriteOnce"], hostPath: { path: state } },
    };
    await cluster.kubectl(["create", "-f", "-"], JSON.stringify(volume));
  }, 300_000);
  afterAll(async () => {
    if (cluster === null) return;
    await kubectl("delete", "deployment", "alloy-runner", "-n", "alloy-runner", "--ignore-not-found");
    await kubectl("delete", "pods", "--all", "-n", "alloy-runner", "--force", "--grace-period=0");
    await kubectl("delete", "-k", dir, "--ignore-not-found");
    await kubectl("delete", "persistentvolume", "alloy-runner-test", "--ignore-not-found");
    await coordinator.close();
    await rm(dir, { recursive: true, force: true });
  }, 120_000);

  test("registers once, takes jobs in pods, and is updated under a running job without harm to it", {
    timeout: 240_000,
  }, async () => {
    await apply(2);
    const first = coordinator.enqueue({ script: ["echo ran as $(id -u)"] });
    await first.reported();
    expect(first.trace).toContain("ran as 0\n");
    expect(first.status).toBe("success");
    expect(await kubectl("get", "events", "-n", "alloy-runner-jobs", "-o", "name")).toContain("runner-");

    // A job that runs until the test lets it end.
    const long = coordinator.enqueue({
      script: ["echo begun; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo ended well"],
    });
    await long.traceContains("begun");
    const [old] = await runners();
    await apply(3);
    await vi.waitFor(
      async () => {
        expect(await kubectl("logs", `pod/${old?.metadata.name}`, "-n", "alloy-runner")).toMatch(
          /asking for no more jobs/,
        );
      },
      { timeout: 60_000, interval: 300 },
    );
    const next = coordinator.enqueue({ script: ["echo of the next one"] });
    const pods = podsSchema.parse(
      JSON.parse(await kubectl("get", "pods", "-n", "alloy-runner-jobs", "-o", "json")),
    ).items;
    const pod = pods.find(({ metadata }) => metadata.deletionTimestamp === undefined);
    expect((await runners()).map(({ metadata }) => metadata.name)).toEqual([old?.metadata.name]);
    await kubectl(
      "exec",
      "-n",
      "alloy-runner-jobs",
      String(pod?.metadata.name),
      "-c",
      "build",
      "--",
      "touch",
      "/tmp/go",
    );
    await long.reported();
    expect(long.status, long.trace).toBe("success");
    expect(long.trace).toContain("ended well\n");

    await next.reported();
    expect(next.status, next.trace).toBe("success");
    const [fresh] = await runners();
    expect(fresh?.metadata.name).not.toBe(old?.metadata.name);
    // To the coordinator it is the same runner on the same machine.
    expect(coordinator.runners).toHaveLength(1);
    const systemIds = coordinator.requests
      .filter(({ endpoint }) => endpoint === "job_request")
      .map(({ body }) => /"system_id":"(r_[0-9a-f]{12})"/.exec(String(body))?.[1]);
    expect(new Set(systemIds).size).toBe(1);
    expect(systemIds[0]).toBeDefined();
  });

  test("hands its jobs over, by a stop or before it, to the pod that takes its place", {
    timeout: 300_000,
  }, async () => {
    const key = "alloy-runner-live-key";
    await kubectl("create", "secret", "generic", key, "-n", "alloy-runner", `--from-literal=key=${"5a".repeat(32)}`);
    const overlay: Overlay = {
      config: 'live_key_file = "/run/secrets/alloy-runner/key"\ndurable = true',
      components: [relative(dir, join(base, "hand-over"))],
    };
    /** The documentation's other way: the signal comes before that of the stop, for which there is a minute. */
    const before = (command: readonly string[]) => ({
      ...overlay,
      patches: [
        {
          patch: JSON.stringify({
            ...{
              apiVersion: "apps/v1",
              kind: "Deployment",
              metadata: { name: "alloy-runner", namespace: "alloy-runner" },
            },
            spec: {
              template: {
                spec: {
                  terminationGracePeriodSeconds: 60,
                  containers: [
                    {
                      name: "alloy-runner",
                      env: [{ name: "ALLOY_RUNNER_STOP", value: "" }],
                      lifecycle: { preStop: { exec: { command } } },
                    },
                  ],
                },
              },
            },
          }),
        },
      ],
    });
    const ready = async (concurrent: number, how: Overlay): Promise<void> => {
      const old = (await runners()).map(({ metadata }) => metadata.name);
      await apply(concurrent, how);
      await vi.waitFor(
        async () => {
          const now = (await runners()).map(({ metadata }) => metadata.name);
          expect(now).toHaveLength(1);
          expect(old).not.toContain(now[0]);
          expect(await kubectl("logs", `pod/${now[0]}`, "-n", "alloy-runner")).toContain("configuration in force");
        },
        { timeout: 90_000, interval: 300 },
      );
    };
    await ready(4, overlay);
    const job = coordinator.enqueue({
      script: ["echo begun; while [ ! -e /tmp/go ]; do sleep 0.1; done; seq 1 2000; echo ended well"],
    });
    await job.traceContains("begun");
    const podOf = async (): Promise<string[]> => {
      const all = podsSchema.parse(JSON.parse(await kubectl("get", "pods", "-n", "alloy-runner-jobs", "-o", "json")));
      return all.items.map(({ metadata }) => metadata.name);
    };
    const [pod = ""] = await podOf();
    const documented = commandOnPage("lifecycle:");
    for (const [concurrent, how, times] of [
      [5, before(documented), 1],
      [6, overlay, 2],
    ] as const) {
      await ready(concurrent, how);
      await vi.waitFor(() => expect(job.trace.match(/the job went on/g)).toHaveLength(times), { timeout: 60_000 });
      expect(await podOf()).toEqual([pod]);
    }
    await kubectl("exec", "-n", "alloy-runner-jobs", pod, "-c", "build", "--", "touch", "/tmp/go");
    await job.reported();
    expect(job.status, job.trace).toBe("success");
    expect(job.trace.match(/^begun/gm)).toHaveLength(1);
    const numbers = [...job.trace.matchAll(/^(\d+)$/gm)].map(([, number]) => Number(number));
    expect(numbers).toEqual(Array.from({ length: 2000 }, (_, index) => index + 1));
    expect(job.trace).toContain("ended well\n");
  });
});
