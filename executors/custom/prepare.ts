import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SystemFailure } from "../../src/errors.ts";
import type { ExecutorDeps } from "../../src/executor/deps.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { JobPlace, Notes, PrepareRequest } from "../../src/executor/prepare.ts";
import type { ShellName } from "../../src/shell.ts";
import { never } from "../../src/time.ts";
import { slotName } from "../common/places/slot-name.ts";
import { jobMark } from "../remote/index.ts";
import { cleanUp } from "./clean-up/clean-up.ts";
import { type KeptJob, keep, letGo, type Place, takePlace } from "./clean-up/kept.ts";
import { type DriverAnswer, readAnswer } from "./driver/answer.ts";
import { type DriverHost, nameCall, runCall } from "./driver/call.ts";
import { askConfig } from "./driver/config-call.ts";
import { definedIn, jobEnvironment, ownEnvironment, responseFile, responseText } from "./driver/driver-environment.ts";
import { createCustomEnvironment } from "./environment.ts";
import type { CustomSettings } from "./settings.ts";

export interface PrepareOptions {
  readonly settings: CustomSettings;
  readonly deps: ExecutorDeps;
  readonly shells: readonly ShellName[];
}

/** Steps of one job, up to the first script: what a driver is asked, in GitLab Runner's order. */
export async function prepareJob(
  { settings, deps, shells }: PrepareOptions,
  request: PrepareRequest,
  notes: Notes,
  signal: AbortSignal,
): Promise<Environment> {
  const { log, entry, host: places } = deps;
  const { job, jobKey, runnerId, trust } = request;
  const place = takePlace(places.keepDir, runnerId, job.projectId);
  const dir = await makeDir(place);
  const payload = responseText(request);
  const own = ownEnvironment(dir, jobMark(jobKey));
  const { cleanup, config, prepare, gracefulMs, forceMs } = settings;
  let kept: KeptJob = {
    jobKey,
    dir,
    payload,
    environment: own,
    secrets: [],
    cleanup: cleanup === null ? null : { path: cleanup.path, args: [...cleanup.args], timeoutMs: cleanup.timeoutMs },
    files: null,
    gracefulMs,
    forceMs,
  };
  const hostWith = (environment: Readonly<Record<string, string>>): DriverHost => ({
    dir,
    workingDirectory: places.working,
    environment: { ...definedIn(places.env), ...environment },
    limits: { gracefulMs, forceMs },
    stopGraceMs: entry.killGraceMs,
  });
  /** What the driver is told from here on, also by its clean-up after a crash. */
  const tell = async (jobEnv: Readonly<Record<string, string>>, at: JobPlace, warn: boolean): Promise<DriverHost> => {
    const { expandWith } = request.openVariables(at);
    const variables = request.variablesAt(at);
    const said = jobEnvironment({ variables, services: job.services, expandWith }, (names) => {
      const text = `Not in the environment of the driver, as no environment holds it: ${names.slice(0, 5).join(", ")}. It is in JOB_RESPONSE_FILE`;
      if (warn) notes.print(text, "warning");
    });
    const secrets = variables.flatMap(({ value, public: open }) => (open ? [] : [value]));
    kept = { ...kept, environment: { ...own, ...jobEnv, ...said }, secrets: [job.token, ...secrets] };
    await keep(place.file, kept);
    return hostWith(kept.environment);
  };
  const undo = async (): Promise<void> => {
    const problem = await cleanUp({ host: hostWith(kept.environment), job: kept, file: place.file, log }, never);
    if (problem !== null) notes.print(`The clean-up has failed: ${problem}`, "warning");
  };

  try {
    await request.remember({ kind: "custom-job", file: place.file });
    await writeFile(responseFile(dir), payload, { mode: 0o600 });
    const buildsDir = entry.buildsDir ?? "/builds";
    let host = await tell({}, placeOf({ buildsDir, shared: false }, request, place), false);
    const defaults = { buildsDir: entry.buildsDir, shell: entry.shell ?? "bash", shells };
    const printed = config === null ? "" : await askConfig(host, config, notes.stream, signal);
    const answer = readAnswer(printed, config === null ? "config_exec" : nameCall({ program: config }), defaults);
    const at = placeOf(answer, request, place);
    host = await tell(answer.jobEnv, at, true);
    sayDriver(answer, notes);
    if (prepare !== null) await runCall(host, { program: prepare, stderr: "joined" }, notes.stream, signal);
    return await createCustomEnvironment(
      {
        settings,
        host,
        answer,
        place: at,
        notes,
        log,
        ephemeral: entry.ephemeral ?? false,
        onFiles: async ({ program, shell, paths }) => {
          kept = { ...kept, files: { path: program.path, args: [...program.args], shell, paths: [...paths] } };
          await keep(place.file, kept);
        },
        cleanUp: undo,
      },
      signal,
    );
  } catch (error) {
    await undo();
    throw error;
  }

  function placeOf(
    { buildsDir, shared }: Pick<DriverAnswer, "buildsDir" | "shared">,
    { projectPath, chosenRoot }: PrepareRequest,
    { slot }: Place,
  ): JobPlace {
    const chosen = chosenRoot?.({ buildsDir, projectSlot: slot }) ?? null;
    const root = chosen ?? `${buildsDir}/${shared ? `${runnerId}/${slotName(slot, trust)}/` : ""}${projectPath}`;
    return { root, tmpDir: `${root}.tmp`, buildsDir, projectSlot: slot };
  }
}

async function makeDir(place: Place): Promise<string> {
  try {
    return await mkdtemp(join(tmpdir(), "alloy-custom-"));
  } catch (cause) {
    await letGo(place.file);
    throw new SystemFailure(`Cannot make a directory for the job in ${tmpdir()}`, { cause });
  }
}

function sayDriver({ driver }: DriverAnswer, notes: Notes): void {
  const name = driver === null ? "" : ` with driver ${driver.name}${driver.version === "" ? "" : ` ${driver.version}`}`;
  notes.print(`The jobs of this runner are run by programs of its operator's${name}`);
}
