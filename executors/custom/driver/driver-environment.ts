import { join } from "node:path";
import type { PrepareRequest } from "../../../src/executor/prepare.ts";
import type { Service, Variable } from "../../../src/job/job.ts";
import { BUILD_FAILURE, SYSTEM_FAILURE } from "./call.ts";

/** Linux takes at most 128 KiB per variable, and a quarter of the stack's limit for all of them. */
const LARGEST_VALUE_BYTES = 100 * 1024;

export interface DriverVariables {
  readonly variables: readonly Variable[];
  readonly services: readonly Service[];
  /** Expands `$NAME` in the settings of a service. */
  expandWith(own: ReadonlyMap<string, string>, text: string): string;
}

/** What a job says to its driver: `CUSTOM_ENV_…`. The prefix keeps a job from changing which programs the driver runs, and how. */
export function jobEnvironment(
  { variables, services, expandWith }: DriverVariables,
  onLeftOut: (names: readonly string[]) => void,
): Record<string, string> {
  const environment: Record<string, string> = {};
  const leftOut: string[] = [];
  const add = (key: string, value: string): void => {
    if (Buffer.byteLength(value) > LARGEST_VALUE_BYTES || value.includes("\0")) leftOut.push(key);
    else environment[`CUSTOM_ENV_${key}`] = value;
  };
  for (const { key, value } of variables) add(key, value);
  add(
    "CI_JOB_SERVICES",
    services.length === 0 ? "" : JSON.stringify(services.map((one) => described(one, expandWith))),
  );
  if (leftOut.length > 0) onLeftOut(leftOut);
  return environment;
}

/** A service in the form in which GitLab Runner writes it. */
function described(service: Service, expandWith: DriverVariables["expandWith"]): Readonly<Record<string, unknown>> {
  const own = new Map(service.variables.map(({ key, value }) => [key, value]));
  const expand = (text: string): string => expandWith(own, text);
  const variables = service.variables.map(({ key, value, raw }) => [key, raw ? value : expand(value)]);
  return {
    name: expand(service.name),
    alias: service.aliases[0] ?? "",
    entrypoint: service.entrypoint,
    command: service.command,
    ...(variables.length === 0 ? {} : { variables: Object.fromEntries(variables) }),
  };
}

/** What all programs of a driver find in their environment, whatever the job. */
export function ownEnvironment(dir: string, mark: string): Record<string, string> {
  const equals = mark.indexOf("=");
  return {
    TMPDIR: dir,
    BUILD_FAILURE_EXIT_CODE: String(BUILD_FAILURE),
    SYSTEM_FAILURE_EXIT_CODE: String(SYSTEM_FAILURE),
    JOB_RESPONSE_FILE: responseFile(dir),
    [mark.slice(0, equals)]: mark.slice(equals + 1),
  };
}

export function responseFile(dir: string): string {
  return join(dir, "response.json");
}

/** The job as it was received; where its text was not kept, what is known of it. */
export function responseText({ job }: Pick<PrepareRequest, "job">): string {
  return job.payload ?? JSON.stringify({ id: job.id, token: job.token });
}

/** The variables that have a value. */
export function definedIn(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).flatMap(([key, value]) => (value === undefined ? [] : [[key, value] as const])),
  );
}
