import type { PreparedVariables } from "../../src/executor.ts";
import type { WantedService } from "./job-images.ts";

/** Variables as containers get them: visible to everybody who may ask the engine. */

/**
 * What a service's container sees: what is public of the job, what the operator and the runner set, and what was written down for
 * this service, which may name anything. Values of the former are without what is secret, and the operator's own secrets are none
 * of a service's business.
 */
export function serviceVariables({ open, expandWith }: PreparedVariables, own: WantedService["variables"]): string[] {
  const shared = open.filter(({ ofOperator, secretName }) => !(ofOperator && secretName));
  const values = new Map(shared.map(({ key, value }) => [key, value]));
  const written = new Map(own.map(({ key, value }) => [key, value]));
  for (const { key, value, raw } of own) values.set(key, raw ? value : expandWith(without(written, key), value));
  return asEnvironment(values);
}

/**
 * What an ENTRYPOINT sees of a job's variables: what scripts will see, but for secrets, and for what would change how the runner's
 * own programs run in the container.
 */
export function entrypointVariables({ open }: PreparedVariables): string[] {
  const shown = open.filter(({ complete, secretName, redirecting }) => complete && !secretName && !redirecting);
  return asEnvironment(new Map(shown.map(({ key, value }) => [key, value])));
}

/** A service's variable that names itself means the job's. */
function without(values: ReadonlyMap<string, string>, key: string): ReadonlyMap<string, string> {
  return new Map([...values].filter(([name]) => name !== key));
}

function asEnvironment(values: ReadonlyMap<string, string>): string[] {
  return [...values]
    .filter(([key, value]) => /^[^=\0]+$/.test(key) && !value.includes("\0"))
    .map(([key, value]) => `${key}=${value}`);
}
