import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { currentSnapshot, leasedAddress, parseInfo, parseList } from "../../executors/parallels/answers.ts";
import { openParallels } from "../../executors/parallels/parallels.ts";
import { never } from "../../src/time.ts";
import { Sink } from "../support/executor-kit.ts";
import { machinesMissing, openMachines } from "../support/machines/machines.ts";
import { machineSuite } from "./machine-suite.ts";

const missing = machinesMissing();
const VERSION = "19.1.0";

test("what prlctl says of machines is understood; an address that leads here, or nowhere, is none", () => {
  const one = (address: string): string =>
    `[{"uuid": "{7BD9A28F-340C-4cfe-864b-12c55387d4b1}", "status": "running", "ip_configured": "${address}", "name": "a \\"b\\""}]`;
  const rest = { id: "7bd9a28f-340c-4cfe-864b-12c55387d4b1", name: 'a "b"', status: "running" };
  expect(parseList(one("fe80::1 10.211.55.7"))).toEqual([{ ...rest, address: "10.211.55.7" }]);
  for (const address of ["-", "", "127.0.0.1", "0.0.0.0", "169.254.3.4", "localhost"])
    expect(parseList(one(address))).toEqual([{ ...rest, address: null }]);
  expect(parseList("")).toEqual([]);
  expect(parseList("{}")).toBeNull();
  expect(parseList("\xff\xff")).toBeNull();
  const info = `[{"ID": "{A}", "Name": "n", "State": "stopped", "OS": "macosx", "Hardware": {"cpu": {"cpus": 2},
    "net0": {"mac": "001C42A1B2C3", "card": "virtio"}, "net1": {"mac": "none"}}}]`;
  expect(parseInfo(info)).toEqual({ id: "a", name: "n", state: "stopped", os: "macosx", macs: ["001c42a1b2c3"] });
  expect(parseInfo("[]")).toBeNull();
  expect(
    currentSnapshot(
      `{"{1}": {"name": "Started", "current": false}, "{2}": {"name": "Started", "current": true}}`,
      "Started",
    ),
  ).toBe("{2}");
  expect(currentSnapshot(`{"{1}": {"name": "Other", "current": true}}`, "Started")).toBeNull();
});

test("of the leases of an adapter the last one counts", () => {
  const leases = `[vnic0]
10.211.55.181="1418921112,1800,001c42f593fb,ff42f593fb000100011c25b9ff001c42f593fb"
10.211.55.199="1418921999,1800,001C42F593FB,01001c42f593fb"
10.211.55.182="1518921112,1800,001c42f593fc,01001c42f593fc"
`;
  expect(leasedAddress(leases, ["001c42f593fb"])).toBe("10.211.55.199");
  expect(leasedAddress(leases, ["001c42f593fd"])).toBeNull();
  expect(leasedAddress("", [])).toBeNull();
});

if (missing === null) {
  machineSuite({
    hypervisor: "parallels",
    title: "Parallels",
    version: VERSION,
    look: "list",
    clone: "create",
    start: "start",
    snapshot: "snapshot",
    restore: "snapshot-switch",
    off: "stop",
    remove: "delete",
    source: /^clone .* --template --linked$/,
    change: (stand) => stand.forget(`${stand.base.name}-template`),
  });

  describe("Parallels by its own ways", { timeout: 120_000 }, () => {
    const opened = (more: Partial<Parameters<typeof openParallels>[0]> = {}) => {
      const machines = openMachines("parallels", VERSION);
      onTestFinished(() => machines.close());
      const leases = join(mkdtempSync(join(machines.dir, "leases-")), "leases");
      const hypervisor = openParallels({
        baseName: machines.base.name,
        templateName: undefined,
        guestPort: 22,
        environment: { ...process.env, ...machines.env },
        workingDirectory: machines.dir,
        leasesFile: leases,
        ...more,
      });
      return { machines, hypervisor, leases };
    };

    test("without guest tools the address is that of the newest lease, and none is waited for, never taken for this machine", async () => {
      const { machines, hypervisor, leases } = opened();
      machines.set("leases-only", "");
      const base = await hypervisor.findBase(machines.base.name, never);
      const source = await hypervisor.makeSource(base, new Sink(), never);
      const machine = await hypervisor.clone(base, source, await hypervisor.introduce("copy", never), never);
      await hypervisor.start(machine, never);
      expect(await hypervisor.address(machine, never)).toBeNull();
      const path = machines.pathOf("copy");
      const mac = readFileSync(join(path, "mac"), "utf8").trim().toLowerCase();
      const address = readFileSync(join(path, "run/address"), "utf8").trim();
      writeFileSync(leases, `[vnic0]\n${address}="1418921112,1800,${mac},01${mac}"\n`);
      expect(await hypervisor.address(machine, never)).toEqual({ host: address, port: 22, macs: [mac] });
      await hypervisor.remove(machine, never);
      expect(await hypervisor.condition(machine, never)).toEqual({ is: "absent" });
    });

    test("a macOS guest on Apple's own processor is copied whole: it can have no template", async () => {
      const { machines, hypervisor } = opened({ architecture: "arm64" });
      writeFileSync(join(machines.pathOf(machines.base.name), "os"), "macosx\n");
      const base = await hypervisor.findBase(machines.base.name, never);
      expect(base.source).not.toBeNull();
      if (base.source === null) return;
      await hypervisor.clone(base, base.source, await hypervisor.introduce("copy", never), never);
      expect(machines.calls()).toContain(`clone ${machines.base.name} --name copy`);
      rmSync(machines.pathOf("copy"), { recursive: true });
    });

    test("a template that is none, or invalid, is named and left alone", async () => {
      const { machines, hypervisor } = opened();
      const name = `${machines.base.name}-template`;
      machines.add(name);
      await expect(hypervisor.findBase(machines.base.name, never)).rejects.toThrow(
        /is no template, .* template_name in/,
      );
      writeFileSync(join(machines.pathOf(name), "template"), "");
      writeFileSync(join(machines.pathOf(name), "state"), "invalid\n");
      await expect(hypervisor.findBase(machines.base.name, never)).rejects.toThrow(/is invalid: .*prlctl unregister/);
    });
  });
} else {
  describe("parallels", () => {
    test.skip(`needs guests: ${missing}`, () => {});
  });
}
