import { setUp } from "../plan/set-up.ts";
import { MISSING_SWITCH } from "../plan/settings.ts";
import { createSecretAmount } from "../variables/secret-amount.ts";
import type { RunJobRequest } from "./request.ts";

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
  const { variables, settings } = setUp(request, null);
  onStart();
  const own = await trace.section("resolve_secrets", async () => {
    trace.print("Resolving secrets");
    return await resolveSecrets(
      {
        secrets,
        expand: (text) => variables.expandWith(new Map(), text),
        get: variables.get,
        count: createSecretAmount().add,
        hide: trace.hide,
        mustExist: runner.featureFlags[MISSING_SWITCH] ?? settings.secrets.mustExist,
        attempts: settings.secrets.attempts,
        print: trace.print,
        ...(secretsPauseMs === undefined ? {} : { attemptPauseMs: secretsPauseMs }),
      },
      signal,
    );
  });
  return { ...request, job: { ...job, secrets: [], variables: [...job.variables, ...own] } };
}
