import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { openAccess } from "../../executors/kubernetes/access/access.ts";
import { createApi } from "../../executors/kubernetes/api/client.ts";
import { type ClaimOptions, claimInstallation } from "../../executors/kubernetes/clean-up/claim.ts";
import { kubernetesTable } from "../../executors/kubernetes/settings/settings.ts";
import { never } from "../../src/time.ts";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { silentLog } from "../support/executor-deps.ts";
import { runOps, Sink, source } from "../support/executor-kit.ts";
import { imageName } from "../support/images.ts";
import { imageNamed, requestOf } from "./kubernetes-request.ts";
import { type KubernetesStand, openStand } from "./kubernetes-stand.ts";

const cluster = await useCluster();

/** Runners whose state directories are copies of one: what stands for them in the cluster is in a file there. */
describe("copies of a state directory", () => {
  if (cluster === null) {
    test.skip(`needs a cluster: ${noCluster}`, () => {});
    return;
  }
  let stand: KubernetesStand;
  beforeAll(async () => {
    await cluster.images("sh", "git");
    stand = await openStand(cluster);
  }, 300_000);

  const it = (title: string, body: () => Promise<void>): void => test(title, body, 180_000);
  const folder = (): string => {
    const dir = mkdtempSync(join(tmpdir(), "alloy-copies-"));
    onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
    return dir;
  };
  const nameIn = (dir: string): string => readFileSync(join(dir, "kubernetes-installation"), "utf8").trim();
  const leases = async (): Promise<string[]> =>
    (await cluster.kubectl(["get", "leases", "-n", stand.namespace, "-o", "name"])).split("\n").filter(Boolean);
  const runner = async (dir: string) => {
    const { connection, retry } = kubernetesTable.parse({});
    const api = createApi(
      await openAccess({ connection, env: { KUBECONFIG: cluster.kubeconfig }, working: dir }),
      retry,
    );
    onTestFinished(() => api.close());
    return api;
  };
  const claiming = async (holder: string, more: Partial<ClaimOptions> = {}) =>
    await claimInstallation(
      {
        api: await runner(tmpdir()),
        namespace: stand.namespace,
        installation: "of-a-test",
        holder,
        isOver: (other) => other === holder,
        onLost: () => {},
        log: silentLog,
        ...more,
      },
      never,
    );

  it("the name is the living one's; it is free once that one has ended, or is silent for long enough", async () => {
    const spec = { holderIdentity: "silent", leaseDurationSeconds: 35 };
    const metadata = { name: "alloy-runner-of-another", namespace: stand.namespace };
    const lease = { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata, spec };
    await cluster.kubectl(["create", "-f", "-"], JSON.stringify(lease));
    const ofSilent = claiming("fourth", { installation: "of-another" });
    const first = await claiming("first");
    expect(first.kind).toBe("held");
    // The other renews it meanwhile.
    expect(await claiming("second")).toEqual({ kind: "taken", holder: "first" });
    expect((await claiming("third", { isOver: (other) => other === "first" })).kind).toBe("held");
    expect((await ofSilent).kind).toBe("held");
  });

  it("the second one that lives takes a name of its own, touches nothing of the first, and is touched by nobody", async () => {
    const [one, other] = [folder(), folder()];
    const first = stand.open({ keepDir: one });
    onTestFinished(() => first.close(never));
    const [running, theirs] = [requestOf({ image: imageNamed(imageName("git")) }), new Sink()];
    const environment = await first.prepare(running, theirs, never);
    onTestFinished(() => environment.destroy(never));
    const name = nameIn(one);

    // Another machine with a copy of the directory, notes of the running job included: the lease is all that tells.
    cpSync(one, other, { recursive: true });
    const second = stand.open({ keepDir: other });
    onTestFinished(() => second.close(never));
    const { done, left } = await second.recover(running.jobKey, running.notes, never);
    expect(done).toEqual([]);
    expect(left).toEqual([expect.stringMatching(/left its pod in the namespace ".*" to another runner/)]);
    expect([nameIn(one), nameIn(other) === name]).toEqual([name, false]);
    // What the other leaves is told from what this one has.
    await second.reserve?.(never);
    expect((await leases()).sort()).toEqual(
      expect.arrayContaining([name, nameIn(other)].map((each) => `lease.coordination.k8s.io/alloy-runner-${each}`)),
    );
    expect((await runOps(environment, source("echo alive"))).text).toBe("alive\n");
  });

  it("what a lost one has left on this machine is another start's at once", async () => {
    const dir = folder();
    const lost = stand.open({ keepDir: dir });
    const request = requestOf({ image: imageNamed(imageName("git")) });
    await lost.prepare(request, new Sink(), never);
    const began = performance.now();
    const next = stand.open({ keepDir: dir });
    onTestFinished(() => next.close(never));
    expect((await next.recover(request.jobKey, request.notes, never)).done).toHaveLength(1);
    expect(performance.now() - began).toBeLessThan(20_000);
    await lost.close(never);
  });

  it("a runner that ends gives up its name", async () => {
    const dir = folder();
    const executor = stand.open({ keepDir: dir });
    expect(await executor.reserve?.(never)).not.toBeNull();
    expect(await leases()).toContain(`lease.coordination.k8s.io/alloy-runner-${nameIn(dir)}`);
    await executor.close(never);
    expect(await leases()).not.toContain(`lease.coordination.k8s.io/alloy-runner-${nameIn(dir)}`);
  });
});
