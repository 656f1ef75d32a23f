import { describeError, ScriptFailure, SystemFailure } from "../../../errors.ts";
import type { Environment } from "../../../executor/environment.ts";
import type { Notes, PrepareRequest } from "../../../executor/prepare.ts";
import { deadline, retry } from "../../../time.ts";
import { formatDuration } from "../../plan/duration.ts";
import { chosenRoot, preparedVariables, setUp, variablesAt } from "../../plan/set-up.ts";
import { projectPathOf } from "../../sources/project-path.ts";
import { trustOf } from "../../sources/trust.ts";
import { marksLeft } from "../durable/found.ts";
import type { Life } from "../life.ts";
import type { RunJobRequest } from "../request.ts";
import { sayingOnce } from "../stages/said.ts";
import { formerNames } from "./former-names.ts";
import { hideIn } from "./secrets.ts";

const PREPARE_ATTEMPTS = 3;
const SECTION = "prepare_executor";

/** What is known of a job before its place is. */
export type Introduced = Pick<
  Required<PrepareRequest>,
  "expand" | "expandSettled" | "chosenRoot" | "openVariables" | "variablesAt"
> & {
  readonly debugServices: boolean;
  readonly variables: () => PrepareRequest["variables"];
};

/**
 * The lines at the top of the trace.
 * @throws {ScriptFailure} the job cannot run
 */
export function greet({ job, runner, identity, trace, secrets, found }: RunJobRequest): void {
  if (found?.progress.greeted !== true) {
    trace.print(
      `Running with alloy-runner ${identity.version} (${identity.revision})\n  on ${runner.name} ${runner.id}`,
    );
    for (const sentence of [...job.warnings, ...secrets.warnings]) trace.print(sentence, "warning");
  }
  if (secrets.problem !== null) throw new ScriptFailure(secrets.problem);
}

/**
 * All that can be told of a job before anything is built.
 * @throws {SystemFailure | ScriptFailure} the job cannot run
 */
export function introduce(request: RunJobRequest): Introduced {
  const { variables, settings } = setUp(request, null);
  if (settings.logsImages) logImages(request, variables.expand);
  return {
    debugServices: settings.debugServices,
    expand: variables.expand,
    chosenRoot: (place) => chosenRoot(request, place),
    expandSettled: variables.expandSettled,
    variables: variables.all,
    openVariables: (place) => preparedVariables(request, place),
    variablesAt: (place) => variablesAt(request, place),
  };
}

/** What a job asks for, by names as they are looked for; what the entry has for jobs that name nothing is its own. */
function logImages({ job, log }: RunJobRequest, expand: (text: string) => string): void {
  if (job.image !== null) log.info("an image of the job", { image: expand(job.image.name) });
  for (const { name } of job.services) log.info("an image of the job", { service: expand(name) });
}

/** The place that the job runs in, within `prepare_timeout`; tried again where the cause may go away. */
export async function prepare(
  request: RunJobRequest,
  introduced: Introduced,
  life: Life,
  signal: AbortSignal,
): Promise<Environment> {
  const {
    job,
    jobKey,
    runner,
    identity,
    executor,
    trace,
    concurrentId,
    reservation,
    remember,
    preparePauseMs = 3000,
  } = request;
  const limitMs = runner.prepareTimeoutMs ?? Number.POSITIVE_INFINITY;
  const begun = request.found?.progress.preparations ?? 0;
  // A try that ended with its process did not fail: it is made again.
  const failed = Math.max(0, begun - 1);
  const tooLong = new SystemFailure(`preparing took longer than ${formatDuration(limitMs)} (prepare_timeout)`);
  using clock = deadline(signal, limitMs, tooLong);
  const make = async (): Promise<Environment> => {
    const { print } = sayingOnce(trace, request.found?.progress);
    print(`Using ${executor.title} executor...`);
    const wanted: PrepareRequest = {
      job,
      jobKey,
      runnerId: runner.id,
      concurrentId,
      projectPath: projectPathOf(job),
      trust: trustOf(job),
      hide: hideIn(request),
      environment: runner.environment,
      debugServices: introduced.debugServices,
      expand: introduced.expand,
      expandSettled: introduced.expandSettled,
      // Seldom asked for, and as large as all that a job has to keep.
      get variables() {
        return introduced.variables();
      },
      chosenRoot: introduced.chosenRoot,
      openVariables: introduced.openVariables,
      variablesAt: introduced.variablesAt,
      formerNames: (slot) => formerNames(runner, { projectId: job.projectId, slot, systemId: identity.systemId }),
      ...(reservation === undefined ? {} : { reservation }),
      ...(request.kept?.whole === true ? {} : { endsWithRunner: true as const }),
      remember,
    };
    const notes: Notes = { print, stream: trace.output, services: trace.services };
    const environment = await retry(
      {
        attempts: PREPARE_ATTEMPTS - failed,
        firstMs: preparePauseMs,
        maxMs: preparePauseMs,
        onRetry: (error, attempt) =>
          print(
            `Preparation failed (try ${attempt + failed} of ${PREPARE_ATTEMPTS}): ${describeError(error)}`,
            "warning",
          ),
      },
      (attempt) => {
        life.preparing(attempt + failed);
        return executor.prepare(wanted, notes, clock.signal);
      },
      clock.signal,
    );
    request.kept?.note({ kind: "prepared", handle: environment.handle ?? null });
    print(runningOn(environment));
    await trace.flush();
    return environment;
  };
  return await trace.section(SECTION, make, marksLeft(request.found, SECTION));
}

/** What an earlier process did not come to say of a place that it had made. */
export async function saidToBePrepared({ trace, found }: RunJobRequest, environment: Environment): Promise<void> {
  const left = marksLeft(found, SECTION);
  if (left === undefined) return;
  const say = async (): Promise<void> => {
    sayingOnce(trace, found?.progress).print(runningOn(environment));
    await trace.flush();
  };
  await trace.section(SECTION, say, left);
}

function runningOn({ host }: Environment): string {
  return `Running on ${host}...`;
}
