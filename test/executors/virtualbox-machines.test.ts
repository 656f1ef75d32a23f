import { execFileSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { parseInfo, parseMachineList } from "../../executors/virtualbox/info.ts";
import { disksBelow } from "../../executors/virtualbox/leftovers.ts";
import { machinesMissing } from "../support/machines/machines.ts";
import { VERSIONS } from "./machine-stand.ts";
import { machineSuite } from "./machine-suite.ts";

const missing = machinesMissing();

const BEFORE_7 = `name="Debian "12""
groups="/"
UUID="3734be39-897f-47bb-a3af-b9ccb6c502d7"
nic1="hostonly"
macaddress1="080027AABBCC"
nic2="nat"
macaddress2="080027AABBCD"
natnet2="nat"
Forwarding(0)="guestssh,tcp,127.0.0.1,2222,,22"
Forwarding(1)="web,tcp,,8080,,80"
"smbus/foo"="bar"
VMState="poweroff"
SnapshotName="Base State"
SnapshotUUID="16b031bd-a947-4a78-837c-b46f91d2a145"
SnapshotName-1="second"
SnapshotUUID-1="26b031bd-a947-4a78-837c-b46f91d2a145"
SnapshotName-1-1="third = "x""
SnapshotUUID-1-1="36b031bd-a947-4a78-837c-b46f91d2a145"
CurrentSnapshotName="third = "x""
CurrentSnapshotUUID="36b031bd-a947-4a78-837c-b46f91d2a145"
CurrentSnapshotNode="SnapshotName-1-1"
description="Of a person:
VMState="running"
SnapshotUUID-7="none"
"
`;

test.each([
  ["6.1", BEFORE_7],
  ["7.1", BEFORE_7.replace('"Debian "12""', '"Debian \\"12\\""').replaceAll('"third = "x""', '"third = \\"x\\""')],
])("what VBoxManage %s says of a machine is understood, whatever a description says", (_version, text) => {
  expect(parseInfo(text.replaceAll("\n", "\r\n"))).toEqual(parseInfo(text));
  expect(parseInfo(text)).toMatchObject({
    id: "3734be39-897f-47bb-a3af-b9ccb6c502d7",
    name: 'Debian "12"',
    state: "poweroff",
    currentSnapshot: { id: "36b031bd-a947-4a78-837c-b46f91d2a145", name: 'third = "x"' },
    natAdapters: [2],
    macs: ["080027aabbcc", "080027aabbcd"],
    forwardings: [
      { name: "guestssh", hostPort: 2222 },
      { name: "web", hostPort: 8080 },
    ],
  });
  expect(
    parseInfo(text)
      ?.snapshots.slice(0, 3)
      .map(({ name }) => name),
  ).toEqual(["Base State", "second", 'third = "x"']);
  expect(parseInfo("nothing")).toBeNull();
});

test("machines and disks are read from lists, and a folder's neighbours are not in it", () => {
  const list =
    '"a "b" c" {3734be39-897f-47bb-a3af-b9ccb6c502d7}\n"<inaccessible>" {4734be39-897f-47bb-a3af-b9ccb6c502d7}\n';
  expect(parseMachineList(list)).toEqual([
    { id: "3734be39-897f-47bb-a3af-b9ccb6c502d7", name: 'a "b" c' },
    { id: "4734be39-897f-47bb-a3af-b9ccb6c502d7", name: "<inaccessible>" },
  ]);
  const disks = ["/vms/a/d.vdi", "/vms/a/Snapshots/{x}.vdi", "/vms/ab/d.vdi", "/vms/d.vdi", "/vms/a"]
    .map(
      (path, index) =>
        `UUID:           id-${index}\nParent UUID:    base\nLocation:       ${path}\nStorage format: VDI\n`,
    )
    .join("\n");
  expect(disksBelow(disks, "/vms/a")).toEqual(["id-1", "id-0"]);
});

if (missing === null) {
  machineSuite({
    hypervisor: "virtualbox",
    title: "VirtualBox",
    version: VERSIONS["7.1"],
    look: "showvminfo",
    clone: "clonevm",
    start: "startvm",
    snapshot: "snapshot",
    restore: "snapshot",
    off: "controlvm",
    remove: "unregistervm",
    source: /^snapshot .* take Base State$/,
    change: (stand) => {
      execFileSync("VBoxManage", ["snapshot", stand.base.id, "take", "Newer"], {
        env: { ...process.env, ...stand.env },
        stdio: "ignore",
      });
    },
  });
} else {
  describe("virtualbox", () => {
    test.skip(`needs guests: ${missing}`, () => {});
  });
}
