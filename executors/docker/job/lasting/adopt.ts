import { SystemFailure } from "../../../../src/errors.ts";
import type { ExecutorDeps } from "../../../../src/executor/deps.ts";
import type { Environment } from "../../../../src/executor/environment.ts";
import type { AdoptRequest, Note } from "../../../../src/executor/prepare.ts";
import { patiently } from "../../../common/patiently.ts";
import { inspectState } from "../../container/container.ts";
import type { JobContainer } from "../../container/job-container.ts";
import { startWithTools } from "../../container/tools-at-start.ts";
import { containerCommands } from "../../engine/commands.ts";
import type { HeldMeans } from "../../means.ts";
import type { DockerSettings } from "../../settings/settings.ts";
import { createEnvironment } from "../environment.ts";
import { networkVariables } from "../scene.ts";
import { followServices } from "../services/follow-logs.ts";
import type { Stay } from "../stay.ts";
import { keptEnvironment } from "./environment-file.ts";
import type { Handle, KnownContainer } from "./handle.ts";

export interface AdoptOptions {
  readonly means: Pick<HeldMeans, "engine" | "owner">;
  readonly settings: DockerSettings;
  readonly deps: ExecutorDeps;
  readonly request: AdoptRequest;
  readonly stay: Stay;
  readonly known: Handle;
  readonly handle: Note;
}

/**
 * The containers of a job that an earlier process has made. Whether they still run is found out with each script, as for those
 * that this process makes: what they end with has the same words.
 * @throws {SystemFailure} they are another runner's, or at another engine; or they are gone, and none of the job's scripts has begun
 */
export async function adoptJob(options: AdoptOptions, signal: AbortSignal): Promise<Environment> {
  const { means, settings, deps, request, stay, known, handle } = options;
  const { engine, owner } = means;
  const { places } = known;
  if (engine.address !== known.engine) {
    throw new SystemFailure(`its containers are at ${known.engine}, and the entry names ${engine.address} now`);
  }
  if (owner.installation !== known.installation) {
    throw new SystemFailure(
      "its containers are another runner's, which works with a copy of this one's state directory",
    );
  }
  const foundBuild = containerOf(known.build, []);
  const helper = known.helper === null ? null : containerOf(known.helper, []);
  if (request.fresh === true) {
    for (const one of [foundBuild, ...(helper === null ? [] : [helper])]) {
      const state = await patiently(() => inspectState(engine, one.id, one.name, signal), signal);
      if (state?.running !== true) throw new SystemFailure(`${one.name} has ended, or was removed`);
    }
  }
  const place = helper ?? foundBuild;
  const user = place.user === undefined ? {} : { user: place.user };
  const commands = containerCommands({ engine, container: place.id, name: place.name, ...user });
  // A container that has ended has no environment, and no script goes on in it.
  const env = await patiently(() => keptEnvironment({ commands, tmpDir: places.tmpDir }, signal), signal);
  const build: JobContainer = { ...foundBuild, env };
  let stopLogs = async (): Promise<void> => {};
  const environment = createEnvironment({
    engine,
    jobKey: request.jobKey,
    shell: known.shell,
    build,
    helper: helper === null ? build : withHome(helper, places.tmpDir),
    places,
    variables: networkVariables(known.networkName ?? undefined),
    slot: known.slot,
    keeps: known.keeps,
    memoryBytes: settings.limits.memoryBytes,
    imageSeconds: known.imageSeconds,
    killLeftovers: deps.entry.killLeftovers,
    killGraceMs: deps.entry.killGraceMs,
    revive: async (output, reviving) => {
      await startWithTools(engine, { id: build.id, name: build.name, first: null }, output, reviving);
    },
    // Caches of others are looked for before the first script.
    formerCache: null,
    stopLogs: async () => await stopLogs(),
    handle,
    own: known.own === null ? null : new Set(known.own),
    destroy: async (until) => {
      await stopLogs();
      await stay.destroy(until);
    },
  });
  const services = known.services.map(({ id, name, names }) => ({ id, names, wanted: { name } }));
  return {
    ...environment,
    adopted: (notes, since) => {
      stopLogs = followServices(engine, services, notes, since);
    },
  };
}

function containerOf({ user, ...known }: KnownContainer, env: readonly string[]): JobContainer {
  return { ...known, user: user ?? undefined, env };
}

/** As `worksAs` has it. */
function withHome(helper: JobContainer, home: string): JobContainer {
  return helper.user === undefined ? helper : { ...helper, env: [`HOME=${home}`] };
}
