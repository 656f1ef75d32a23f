import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { type Hypervisor, type Machines, machinesMissing, openMachines } from "../support/machines/machines.ts";
import { openSite, type Site } from "../support/site.ts";

/** Jobs in copies of a virtual machine, on the built binary. */

const missing = machinesMissing();
const open: (Site | Machines)[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

interface Place {
  readonly machines: Machines;
  readonly site: Site;
}

const kinds: readonly (readonly [Hypervisor, { version: string; clone: string }])[] = [
  ["virtualbox", { version: "7.1.4r165100", clone: "clonevm" }],
  ["parallels", { version: "19.1.0", clone: "create" }],
];

async function placeWith(hypervisor: Hypervisor, version: string, more = ""): Promise<Place> {
  const machines = openMachines(hypervisor, version);
  const site = await openSite({
    dialect: "gitlab",
    executor: hypervisor,
    entry: `[runners.${hypervisor}]\nbase_name = '${machines.base.name}'\n${more}
[runners.ssh]\nuser = "root"\nidentity_file = "${machines.keyFile}"`,
    run: { env: machines.env },
  });
  open.push(site, machines);
  return { machines, site };
}

describe.each(kinds)("%s", { timeout: 180_000 }, (hypervisor, { version, clone }) => {
  if (missing !== null) {
    test.skip(`needs guests: ${missing}`, () => {});
    return;
  }

  test("a whole job: its script, artifacts and cache; the next one finds the cache and nothing else", async () => {
    const { site, machines } = await placeWith(hypervisor, version);
    const common = { variables: { GIT_STRATEGY: "none" }, cache: { key: "k", paths: ["kept/"] } };
    const first = site.coordinator.enqueue({
      ...common,
      script: [
        "mkdir -p kept out; head -c 3000000 /dev/urandom >kept/large; cksum <kept/large; echo made >out/f; hostname",
      ],
      artifacts: { paths: ["out/"] },
    });
    await first.finished();
    expect(first.status, first.trace).toBe("success");
    expect(first.trace).toMatch(/Running on virtual machine Debian -12- base-runner-\S+-concurrent-0-\S+\.\.\./);
    expect(first.trace).toMatch(/^guest$/m);
    const second = site.coordinator.enqueue({
      ...common,
      script: ["cksum <kept/large; cat out/f; exit 5"],
      dependencies: [first],
    });
    await second.finished();
    expect(second.exitCode).toBe(5);
    expect(second.trace).toContain(/^(\d+ 3000000)/m.exec(first.trace)?.[1] ?? "none");
    expect(second.trace).toMatch(/^made$/m);
    await expect.poll(() => machines.running(), { timeout: 30_000 }).toEqual([]);
    expect(machines.copies()).toHaveLength(1);
  });

  test("kill -9 in mid-job: the next start switches the machine off, reports the job, and the machine serves again", async () => {
    const { site, machines } = await placeWith(hypervisor, version);
    const job = site.coordinator.enqueue({ script: ["echo ready; sleep 600"], variables: { GIT_STRATEGY: "none" } });
    await job.traceContains("ready");
    const [copy] = machines.copies();
    await site.runner.stop("SIGKILL");
    expect(machines.running()).toEqual([copy]);
    await site.start();
    await job.finished();
    expect(job.status).toBe("failed");
    expect(job.trace).toContain(`powered off 1 virtual machine (${copy}) and what ran in it`);
    await expect.poll(() => machines.running()).toEqual([]);
    const next = site.coordinator.enqueue({ script: ["echo fine"], variables: { GIT_STRATEGY: "none" } });
    await next.finished();
    expect(next.status, next.trace).toBe("success");
    expect(machines.copies()).toEqual([copy]);
  });

  test("kill -9 while the base is copied: the copying ends, and nothing of the copy is left", async () => {
    const { site, machines } = await placeWith(hypervisor, version, "disable_snapshots = true");
    const before = site.coordinator.enqueue({ script: ["true"], variables: { GIT_STRATEGY: "none" } });
    await before.finished();
    expect(before.status, before.trace).toBe("success");
    await expect.poll(() => machines.copies(), { timeout: 30_000 }).toEqual([]);
    machines.set("copying", "600");
    const called = machines.calls().length;
    const job = site.coordinator.enqueue({ script: ["true"], variables: { GIT_STRATEGY: "none" } });
    const copying = (): boolean =>
      machines
        .calls()
        .slice(called)
        .some((call) => / begins$/.test(call));
    await expect.poll(copying, { timeout: 60_000 }).toBe(true);
    await site.runner.stop("SIGKILL");
    expect(machines.processes()).not.toEqual([]);
    machines.set("copying", null);
    await site.start();
    await job.finished();
    expect(job.status).toBe("failed");
    expect(job.trace).toMatch(/removed 1 virtual machine/);
    await expect.poll(() => machines.processes(), { timeout: 30_000 }).toEqual([]);
    expect(machines.copies()).toEqual([]);
    expect(readdirSync(join(machines.dir, hypervisor, "folder"))).toEqual([]);
    expect(machines.calls().some((call) => call.startsWith(clone))).toBe(true);
    expect(existsSync(machines.pathOf(machines.base.name))).toBe(true);
    const again = site.coordinator.enqueue({ script: ["true"], variables: { GIT_STRATEGY: "none" } });
    await again.finished();
    expect(again.status, again.trace).toBe("success");
  });

  test("a cancel in mid-job ends it and switches the machine off", async () => {
    const { site, machines } = await placeWith(hypervisor, version, "disable_snapshots = true");
    const job = site.coordinator.enqueue({ script: ["echo ready; sleep 600"], variables: { GIT_STRATEGY: "none" } });
    await job.traceContains("ready");
    job.cancel();
    await expect.poll(() => machines.copies(), { timeout: 60_000 }).toEqual([]);
    expect(machines.running()).toEqual([]);
    expect(readFileSync(join(machines.pathOf(machines.base.name), "state"), "utf8")).not.toContain("running");
  });
});
