import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Stop } from "../../src/errors.ts";
import { never } from "../../src/time.ts";
import { Sink, sampleRequest } from "../support/executor-kit.ts";
import { buildLinux, linuxMissing } from "../support/machines/linux.ts";
import { type MachineStand, openMachineStand, VERSIONS } from "./machine-stand.ts";

/** Machines that boot a kernel, by QEMU, and do not come as far as sshd. Those that do are in e2e/machines-linux. */

const missing = linuxMissing();

describe.skipIf(missing !== null)(`a kernel that boots${missing === null ? "" : `: ${missing}`}`, () => {
  let parts: string;
  let stand: MachineStand;
  beforeAll(async () => {
    parts = await buildLinux();
  }, 240_000);
  beforeEach(() => {
    stand = openMachineStand("virtualbox", VERSIONS["7.1"]);
    stand.set("linux", parts);
  });
  afterEach(() => stand.close());

  const console = (): string => {
    const file = join(stand.pathOf(stand.copies()[0] ?? ""), "run/console");
    return existsSync(file) ? readFileSync(file, "utf8") : "";
  };

  test("a cancel in mid-boot ends it at once, and nothing is left of the machine", { timeout: 180_000 }, async () => {
    // The kernel is up, and its first process never starts an sshd.
    writeFileSync(
      join(stand.pathOf(stand.base.name), "disk/init"),
      "#!/bin/sh\n/bin/busybox echo boots\nexec /bin/busybox sleep 1000\n",
      { mode: 0o755 },
    );
    const executor = stand.open();
    const stop = new AbortController();
    const reason = new Stop("canceled", "canceled by the test");
    const preparing = executor.prepare(sampleRequest(), new Sink(), stop.signal);
    preparing.catch(() => {});
    await expect.poll(console, { timeout: 120_000 }).toContain("boots");
    const canceledMs = performance.now();
    stop.abort(reason);
    await expect(preparing).rejects.toBe(reason);
    expect(performance.now() - canceledMs).toBeLessThan(30_000);
    expect(stand.running()).toEqual([]);
    expect(stand.copies()).toEqual([]);
    await executor.close(never);
  });

  test("a kernel that panics is noticed, not waited for", { timeout: 180_000 }, async () => {
    writeFileSync(join(stand.pathOf(stand.base.name), "disk/init"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
    const executor = stand.open({ boot_timeout: 600 });
    await expect(executor.prepare(sampleRequest(), new Sink(), never)).rejects.toThrow(
      /^The virtual machine "Debian -12- base-runner-.*" is aborted, while its sshd was waited for\. See in VirtualBox's log/,
    );
    expect(stand.copies()).toEqual([]);
    await executor.close(never);
  });
});
