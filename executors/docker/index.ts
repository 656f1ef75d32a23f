import type { ExecutorDeps } from "../../src/executor/deps.ts";
import type { Environment } from "../../src/executor/environment.ts";
import { defineExecutor, type Executor } from "../../src/executor/executor.ts";
import type { AdoptRequest, Note, PrepareRequest } from "../../src/executor/prepare.ts";
import type { ExecutorWords } from "../../src/executor/words.ts";
import type { ShellName } from "../../src/shell.ts";
import { handingOver } from "../common/hand-over.ts";
import { createOutlook } from "../common/outlook.ts";
import { patiently } from "../common/patiently.ts";
import { ownImageAsService } from "../images/own-image.ts";
import { recoverJob } from "./clean-up/recover.ts";
import { buildDirsAreApart } from "./container/places.ts";
import { locationOf } from "./engine/endpoint.ts";
import { mustRunLinux } from "./engine/linux.ts";
import { engineNote, hasEngineNote, notedConnection } from "./engine/noted-engine.ts";
import { createAccounts } from "./job/accounts/accounts.ts";
import { prepareJob } from "./job/prepare-job.ts";
import { returnTo, stayAt } from "./job/stay.ts";
import { tidyEngine } from "./kept/tidy.ts";
import { createEngines } from "./means.ts";
import type { ConnectionSettings, DockerSettings } from "./settings/settings.ts";
import { checkedTable, settingsOf } from "./settings/table.ts";
import { words } from "./words.ts";

export { buildDirsAreApart } from "./container/places.ts";
export { openSocketHere } from "./engine/socket-here.ts";
export type { ConnectionSettings, DockerSettings } from "./settings/settings.ts";
export { checkedTable, settingsOf } from "./settings/table.ts";
export { createSuccessive } from "./successive.ts";

const SHELLS = ["bash", "sh", "pwsh"] as const satisfies readonly ShellName[];

/** How an executor that works with an engine makes a job's surroundings. */
export interface Flavor extends Pick<ExecutorWords, "name" | "title"> {
  readonly prepare?: typeof prepareJob;
  /**
   * The engine that a job's containers are at, such as that of the machine which was reserved for it; by default the entry's own.
   * Connections to another one last as long as it has jobs.
   */
  readonly connectionOf?: (request: PrepareRequest) => ConnectionSettings;
}

/** A question costs either side less than a millisecond, and what an engine takes on after it has gone is lost. */
const LOOKS = { freshMs: 250, staleMs: 250, limitMs: 5000 };

/** As long as a script may run whose engine nobody hears of. */
const ADOPT_MS = 600_000;

export function createDockerExecutor(
  given: DockerSettings,
  deps: ExecutorDeps,
  { name, title, prepare = prepareJob, connectionOf }: Flavor = words,
): Executor {
  const { log, entry, host } = deps;
  const settings = entry.ephemeral === true ? { ...given, disableCache: true, volumeKeep: false } : given;
  const engines = createEngines(settings, deps);
  const accounts = createAccounts();
  const serviceImage = ownImageAsService(settings);

  const diagnose: Executor["diagnose"] = async ({ environment }, signal) => {
    const { diagnoseEngine } = await import("./engine/diagnose.ts");
    return await diagnoseEngine({ settings, host, environment }, signal);
  };

  let rootDir: string | null = null;
  const outlook = createOutlook({
    ...LOOKS,
    look: async (signal) => {
      const means = await engines.hold(settings.connection, signal);
      try {
        mustRunLinux(means.engine);
        ({ rootDir } = means.engine);
        await means.engine.call("ask whether it is there", (docker) => docker.ping(), signal, LOOKS.limitMs);
      } finally {
        await means.free();
      }
    },
  });

  const tidy: Executor["tidy"] = async (budgets, { dry }, signal) => {
    const means = await engines.hold(settings.connection, signal);
    const { engine, owner, uses } = means;
    try {
      return await tidyEngine({ engine, owner, uses, budgets, dry }, signal);
    } finally {
      await means.free();
    }
  };

  // Of machines that come and go nobody can say whether they are there for the next process.
  const lasting =
    entry.durable === true && entry.ephemeral !== true && prepare === prepareJob && connectionOf === undefined;

  const adopt = async (request: AdoptRequest, handle: Note, signal: AbortSignal): Promise<Environment> => {
    const { readHandle } = await import("./job/lasting/handle.ts");
    const { adoptJob } = await import("./job/lasting/adopt.ts");
    const known = readHandle(handle);
    const means = await patiently(() => engines.hold(settings.connection, signal), signal);
    means.sweeper.look(means.engine);
    return await returnTo(means, request, known, (stay) =>
      adoptJob({ means, settings, deps, request, stay, known, handle }, signal),
    );
  };

  const executor: Executor = {
    name,
    title,
    features: { variables: true, image: true, services: true, shared: false, terminal: true },
    shell: entry.shell ?? "bash",
    ...(serviceImage === undefined ? {} : { serviceImage }),
    location: locationOf(settings.connection, host.env),
    prepare: async (request, notes, signal) => {
      const connection = connectionOf?.(request) ?? settings.connection;
      const means = await engines.hold(connection, signal).catch((error: unknown) => {
        outlook.doubt();
        throw error;
      });
      const { engine, owner, sweeper, helperImages } = means;
      try {
        mustRunLinux(engine);
        sweeper.look(engine);
        await request.remember(engineNote(engine.address, connection, host.env));
      } catch (error) {
        await means.free();
        throw error;
      }
      const begin = { engine, settings, deps, owner, helperImages, accounts, request, lasting };
      try {
        return await stayAt(means, request, log, (stay) => prepare({ ...begin, ...stay }, notes, signal), signal);
      } catch (error) {
        outlook.doubt();
        throw error;
      }
    },
    // Machines of its own are there only once jobs are.
    ...(connectionOf === undefined
      ? { diagnose, ready: outlook.ready, disks: () => (rootDir === null ? [] : [rootDir]) }
      : {}),
    ...(lasting ? { adopt, adoptMs: ADOPT_MS } : {}),
    recover: async (jobKey, notes, signal) => {
      if (!hasEngineNote(notes)) return { done: [], left: [] };
      const elsewhere = await notedConnection(notes, settings.connection, host.env);
      const means = await engines.hold(elsewhere ?? settings.connection, signal);
      const { engine, owner, sweeper } = means;
      try {
        return await recoverJob(engine, owner, jobKey, signal);
      } finally {
        if (elsewhere === null) sweeper.look(engine);
        await means.free();
      }
    },
    ...(connectionOf === undefined ? { tidy } : {}),
    close: () => engines.close(),
  };
  // Of another machine's places a job has no use.
  return connectionOf === undefined ? handingOver(executor) : executor;
}

export default defineExecutor({
  ...words,
  tables: [{ name: "docker", required: true, schema: checkedTable }],
  buildDirsAreApart: ({ docker }, buildsDir) => buildDirsAreApart(settingsOf(docker), buildsDir),
  shells: SHELLS,
  canOutlive: "runner",
  // Without a table, after a crash whose entry is gone from the configuration, the engine is where it is by default.
  create: ({ docker }, deps) => createDockerExecutor(settingsOf(docker), deps),
});
