import { randomBytes } from "node:crypto";
import { afterAll, beforeAll } from "vitest";
import dockerMachine from "../../executors/docker-machine/index.ts";
import type { ExecutorDefinition } from "../../src/executor/executor.ts";
import type { TestEngine, TestImage } from "../support/docker.ts";
import { type MachineStand, openMachineStand, type StandOptions } from "../support/docker-machine/stand.ts";
import { type DockerStand, type StandFlavor, standOfSuite, TIMEOUT_MS } from "./docker-stand.ts";

interface SuiteOptions extends StandFlavor {
  /** How many machines there can be at the same time. */
  readonly addresses: number;
  /** Known before the first test: how docker-machine logs in to machines. */
  readonly login: () => NonNullable<StandOptions["login"]>;
}

/** docker+machine as a suite has it: machines of the stand-in, whose engine over TLS is the test's. */
export function machinesOfSuite(
  engine: TestEngine,
  images: readonly TestImage[],
  { definition = dockerMachine, tables = {}, image = "git", login, addresses = 60 }: Partial<SuiteOptions> = {},
): { readonly stand: () => DockerStand; readonly machines: () => MachineStand } {
  let machines: MachineStand | undefined;
  const opened = (): MachineStand => {
    if (machines === undefined) throw new Error("the stand is opened before the first test");
    return machines;
  };
  beforeAll(async () => {
    machines = await openMachineStand({
      engine: engine.host.slice("unix://".length),
      addresses,
      ...(login === undefined ? {} : { login: login() }),
    });
  }, TIMEOUT_MS);
  afterAll(() => machines?.[Symbol.asyncDispose]());
  const machine = { MachineDriver: "none", MachineName: "auto-%s", IdleTime: 600, shutdown_drain: { enabled: true } };
  /** Executors of one test are several entries: each has machines of its own. */
  const owned: ExecutorDefinition = {
    ...definition,
    create: (given, deps) => {
      const id = randomBytes(4).toString("hex");
      return definition.create(given, {
        ...deps,
        entry: {
          ...deps.entry,
          machines: deps.entry.machines ?? { runnerId: id, shortTokens: [id], limit: Number.POSITIVE_INFINITY },
        },
        host: { ...deps.host, env: { ...deps.host.env, ...opened().env } },
      });
    },
  };
  const stand = standOfSuite(engine, images, { definition: owned, tables: { machine, ...tables }, image });
  return { stand, machines: opened };
}
