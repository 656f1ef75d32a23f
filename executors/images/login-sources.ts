import { join } from "node:path";
import type { PrepareRequest } from "../../src/executor/prepare.ts";
import { homeDirectory } from "../common/home.ts";
import { openLogins, type RegistryLogins } from "./logins.ts";

const VARIABLE = "DOCKER_AUTH_CONFIG";

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The logins that count for a job.
 * @param env the runner's own environment
 */
export async function loginsOfJob(
  { job, environment, hide }: Pick<PrepareRequest, "job" | "environment" | "hide">,
  env: Environment,
): Promise<RegistryLogins> {
  return await openLogins({
    ...operatorSources(environment, env),
    jobConfig: valueOf(job.variables),
    jobCredentials: job.credentials,
    hide: (secrets) => hide?.(secrets),
  });
}

/**
 * The logins that the operator gives to all jobs of an entry.
 * @param environment that of the entry
 * @param env the runner's own
 */
export async function loginsOfOperator(
  environment: PrepareRequest["environment"],
  env: Environment,
): Promise<RegistryLogins> {
  return await openLogins({
    ...operatorSources(environment, env),
    jobConfig: undefined,
    jobCredentials: [],
    hide: () => {},
  });
}

function operatorSources(environment: PrepareRequest["environment"], env: Environment) {
  return {
    entryConfig: valueOf(environment),
    operatorConfig: env[VARIABLE],
    configDir: env.DOCKER_CONFIG || join(homeDirectory(), ".docker"),
    home: homeDirectory(),
    env,
  };
}

function valueOf(variables: readonly { readonly key: string; readonly value: string }[]): string | undefined {
  return variables.findLast(({ key }) => key === VARIABLE)?.value;
}
