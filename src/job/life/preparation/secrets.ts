import type { Job, Variable } from "../../job.ts";
import { setUp } from "../../plan/set-up.ts";
import { MISSING_SWITCH } from "../../plan/settings.ts";
import { createSecretAmount } from "../../variables/secret-amount.ts";
import { marksLeft } from "../durable/found.ts";
import type { RunJobRequest } from "../request.ts";
import { sayingOnce } from "../stages/said.ts";

/** Hides texts in a job's trace, also where the runner's next process goes on with it: that hears of them first. */
export function hideIn({ kept, trace }: Pick<RunJobRequest, "kept" | "trace">): (secrets: readonly string[]) => void {
  return (secrets) => {
    kept?.hide(secrets);
    trace.hide(secrets);
  };
}

/**
 * The job with its secrets as variables of its own, which win over others of the same name; they are hidden in its trace before
 * anything of the job could show them.
 * @throws {SystemFailure | ScriptFailure} the job cannot run
 */
export async function withSecrets(
  request: RunJobRequest,
  onStart: () => void,
  signal: AbortSignal,
): Promise<RunJobRequest> {
  const { job, runner, trace, resolveSecrets, secretsPauseMs } = request;
  const { secrets = [] } = job;
  if (secrets.length === 0) return request;
  const known = request.found?.variables;
  if (known !== undefined) return { ...request, job: withVariables(job, known) };
  const { variables, settings } = setUp(request, null);
  onStart();
  const resolve = async (): Promise<Variable[]> => {
    const { print } = sayingOnce(trace, request.found?.progress);
    print("Resolving secrets");
    return await resolveSecrets(
      {
        secrets,
        expand: (text) => variables.expandWith(new Map(), text),
        get: variables.get,
        count: createSecretAmount().add,
        hide: hideIn(request),
        mustExist: runner.featureFlags[MISSING_SWITCH] ?? settings.secrets.mustExist,
        attempts: settings.secrets.attempts,
        print,
        ...(secretsPauseMs === undefined ? {} : { attemptPauseMs: secretsPauseMs }),
      },
      signal,
    );
  };
  const own = await trace.section("resolve_secrets", resolve, marksLeft(request.found, "resolve_secrets"));
  request.kept?.variables(own);
  return { ...request, job: withVariables(job, own) };
}

function withVariables(job: Job, own: readonly Variable[]): Job {
  return { ...job, secrets: [], variables: [...job.variables, ...own] };
}
