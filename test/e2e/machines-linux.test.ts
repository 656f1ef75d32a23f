import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { buildLinux, linuxMissing } from "../support/machines/linux.ts";
import { type Machines, openMachines } from "../support/machines/machines.ts";
import { openSite, type Site } from "../support/site.ts";

/** A job of the built binary in a machine whose kernel QEMU boots by software, so that a slow boot is a real one. */

const missing = linuxMissing();
const open: (Site | Machines)[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

describe.skipIf(missing !== null)(`a machine with a kernel${missing === null ? "" : `: ${missing}`}`, () => {
  let parts: string;
  beforeAll(async () => {
    parts = await buildLinux();
  }, 240_000);

  test("its boot is waited for, its clock is set, the job runs, and the machine goes", {
    timeout: 300_000,
  }, async () => {
    const machines = openMachines("virtualbox", "7.1.4r165100");
    machines.set("linux", parts);
    const site = await openSite({
      dialect: "gitlab",
      executor: "virtualbox",
      entry: `shell = "sh"\n[runners.virtualbox]\nbase_name = '${machines.base.name}'\ndisable_snapshots = true
[runners.ssh]\nuser = "root"\nidentity_file = "${machines.keyFile}"`,
      run: { env: machines.env },
    });
    open.push(site, machines);
    const job = site.coordinator.enqueue({
      variables: { GIT_STRATEGY: "none" },
      script: ["uname -r; hostname; date -u +now=%s; head -c 300000 /dev/urandom >sent"],
      artifacts: { paths: ["sent"] },
    });
    await job.finished({ timeoutMs: 240_000 });
    expect(job.status, job.trace).toBe("success");
    expect(job.trace).toMatch(/^\d\S+-cloud-amd64$/m);
    expect(job.trace).toMatch(/^booted$/m);
    // It came up in the year 2020.
    const now = Number(/^now=(\d+)$/m.exec(job.trace)?.[1]);
    expect(Math.abs(now - Date.now() / 1000)).toBeLessThan(120);
    expect((await job.artifacts[0]?.read())?.length).toBeGreaterThan(300_000);
    await expect.poll(() => machines.copies(), { timeout: 30_000 }).toEqual([]);
    expect(machines.running()).toEqual([]);
  });
});
