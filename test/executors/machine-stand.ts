/** Machines of a stand-in, and executors whose jobs run in copies of them. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import parallels, { parallelsTable } from "../../executors/parallels/index.ts";
import { sshTable } from "../../executors/ssh/settings.ts";
import virtualbox, { virtualBoxTable } from "../../executors/virtualbox/index.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { Log } from "../../src/log.ts";
import { type DepsOptions, executorDeps } from "../support/executor-deps.ts";
import { type Hypervisor, type Machines, openMachines } from "../support/machines/machines.ts";

export interface MachineStand extends Machines {
  /** What was logged, one line each. */
  readonly logged: string[];
  open(
    table?: Readonly<Record<string, unknown>>,
    deps?: DepsOptions,
    ssh?: Readonly<Record<string, unknown>>,
  ): Executor;
}

export const VERSIONS = { "6.1": "6.1.50r161033", "7.0": "7.0.20r163906", "7.1": "7.1.4r165100" };

const definitions = { virtualbox, parallels };
const tables = { virtualbox: virtualBoxTable, parallels: parallelsTable };

export function openMachineStand(hypervisor: Hypervisor, version: string): MachineStand {
  const machines = openMachines(hypervisor, version);
  const logged: string[] = [];
  const take = (message: string, fields?: Readonly<Record<string, unknown>>): void => {
    logged.push(`${message} ${JSON.stringify(fields ?? {})}`);
  };
  const log: Log = { debug: take, info: take, warn: take, error: take, child: () => log };
  mkdirSync(join(machines.dir, "scratch"));
  mkdirSync(join(machines.dir, "keep"));
  return {
    ...machines,
    logged,
    open: (table = {}, deps = {}, ssh = {}) =>
      definitions[hypervisor].create(
        {
          [hypervisor]: tables[hypervisor].parse({ base_name: machines.base.name, ...table }),
          ssh: sshTable.parse({ user: "root", identity_file: machines.keyFile, ...ssh }),
        },
        executorDeps(machines.dir, {
          log,
          killGraceMs: 1000,
          keepDir: join(machines.dir, "keep"),
          env: { ...process.env, ...machines.env },
          ...deps,
        }),
      ),
  };
}
