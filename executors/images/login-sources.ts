import { join } from "node:path";
import type { PrepareRequest } from "../../src/executor/prepare.ts";
import { openLogins, type RegistryLogins } from "./logins.ts";

const VARIABLE = "DOCKER_AUTH_CONFIG";

/** The runner's own account. */
interface Account {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
}

/** The logins that count for a job. */
export async function loginsOfJob(
  { job, environment, hide }: Pick<PrepareRequest, "job" | "environment" | "hide">,
  account: Account,
): Promise<RegistryLogins> {
  return await openLogins({
    ...operatorSources(environment, account),
    jobConfig: authConfigIn(job.variables),
    jobCredentials: job.credentials,
    hide: (secrets) => hide?.(secrets),
  });
}

/** The logins that the operator gives to all jobs of an entry, whose `environment` it is. */
export async function loginsOfOperator(
  environment: PrepareRequest["environment"],
  account: Account,
): Promise<RegistryLogins> {
  return await openLogins({
    ...operatorSources(environment, account),
    jobConfig: undefined,
    jobCredentials: [],
    hide: () => {},
  });
}

function operatorSources(environment: PrepareRequest["environment"], { env, home }: Account) {
  return {
    entryConfig: authConfigIn(environment),
    operatorConfig: env[VARIABLE],
    configDir: env.DOCKER_CONFIG || join(home, ".docker"),
    home,
    env,
  };
}

function authConfigIn(variables: readonly { readonly key: string; readonly value: string }[]): string | undefined {
  return variables.findLast(({ key }) => key === VARIABLE)?.value;
}
