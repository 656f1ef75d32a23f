import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, test } from "vitest";
import { probeTools, type RemoteCommands, remoteFiles } from "../../executors/remote/index.ts";
import { connectSsh, type SshConnection, sshCommands, sshSettings, sshTable } from "../../executors/ssh/over-ssh.ts";
import { never } from "../../src/time.ts";
import { executorContract } from "../contract/executor.ts";
import { workspaceContract } from "../contract/workspace.ts";
import { silentLog } from "../support/executor-deps.ts";
import { Sink, sampleRequest } from "../support/executor-kit.ts";
import { type Hypervisor, machinesMissing } from "../support/machines/machines.ts";
import { type MachineStand, openMachineStand } from "./machine-stand.ts";

const missing = machinesMissing();
const NOTHING_STAYS = "each job begins with the same snapshot, and finds nothing of another";

/** Runs the executor contract over an executor that makes copies of machines. */
export function machineContract(hypervisor: Hypervisor, version: string): void {
  if (missing !== null) {
    test.skip(`${hypervisor} needs guests: ${missing}`, () => {});
    return;
  }
  describe(`${hypervisor} executor`, () => {
    let stand: MachineStand;
    beforeAll(() => {
      stand = openMachineStand(hypervisor, version);
    });
    afterAll(() => stand.close());

    executorContract(hypervisor, {
      open: async (options) => stand.open({}, options),
      timeoutMs: 120_000,
      shared: true,
      jobsAtOnce: 3,
      skip: [
        "the next job finds the checkout of the last one, and none of its temporary files",
        "jobs of different trust find nothing of one another, and have slots as those of one",
        "a job builds its commit, whatever the last one left in the index and the objects",
      ].map((title) => ({ test: title, because: NOTHING_STAYS })),
    });
  });

  describe(`files of a guest of ${hypervisor}`, () => {
    let stand: MachineStand;
    let connection: SshConnection;
    let commands: RemoteCommands;
    const undo: (() => Promise<void>)[] = [];
    beforeAll(async () => {
      stand = openMachineStand(hypervisor, version);
      // The guest shares this machine's files, so that it sees what the tests make.
      stand.set("share", "");
      const executor = stand.open();
      const environment = await executor.prepare(sampleRequest(), new Sink(), never);
      undo.push(async () => {
        connection.close();
        await environment.destroy(never);
        await executor.close(never);
      });
      const table = sshTable.parse({
        identity_file: stand.keyFile,
        disable_strict_host_key_checking: true,
        known_hosts_file: join(mkdtempSync(join(stand.dir, "hosts-")), "none"),
      });
      const around = { workingDirectory: tmpdir(), environment: {} };
      const settings = sshSettings(table, around, { host: stand.addressOf(stand.running()[0] ?? "") });
      connection = await connectSsh(settings, { log: silentLog }, never);
      commands = sshCommands(connection);
    }, 120_000);
    afterAll(async () => {
      for (const one of undo) await one();
      stand.close();
    });

    workspaceContract(`a guest of ${hypervisor}`, {
      open: async (place) => remoteFiles(commands, { ...place, tools: await probeTools(commands, never) }),
    });
  });
}
