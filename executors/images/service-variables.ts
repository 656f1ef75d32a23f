import { ScriptFailure } from "../../src/errors.ts";
import type { Notes, OpenVariable, PreparedVariables } from "../../src/executor/prepare.ts";
import { globExpression } from "./name-glob.ts";
import type { WantedService } from "./wanted.ts";

/** The most bytes that one service's container is given, and that references in it stand for. */
export const MOST_SERVICE_BYTES = 1024 * 1024;

/** Which variables of `environment` of the entry are none of a service's business. */
export type Withheld = (variable: OpenVariable) => boolean;

/** By default those whose names sound like a password. */
export const withheldByName: Withheld = ({ ofOperator, secretName }) => ofOperator && secretName;

/** Names and globs, whatever their case: `services_environment_exclude`. */
export function withheldBy(patterns: readonly string[] | undefined): Withheld {
  if (patterns === undefined) return withheldByName;
  const expressions = patterns.map((pattern) => new RegExp(globExpression(pattern), "is"));
  return ({ ofOperator, key }) => ofOperator && expressions.some((expression) => expression.test(key));
}

/** How many names of variables a line of the trace has. */
const MOST_NAMED = 20;

/** What a job's services do not get of the entry's `environment`, which a job with services is told. */
export function withheldFrom(
  { open }: Pick<PreparedVariables, "open">,
  {
    patterns,
    services,
    notes,
  }: { patterns: readonly string[] | undefined; services: number; notes: Pick<Notes, "print"> },
): Withheld {
  const withheld = withheldBy(patterns);
  const left = services === 0 ? [] : open.filter(withheld).map(({ key }) => key);
  if (left.length > 0) {
    const names = left.slice(0, MOST_NAMED).join(", ") + (left.length > MOST_NAMED ? ", …" : "");
    notes.print(`Services do not get ${names} of the runner's environment (services_environment_exclude)`);
  }
  return withheld;
}

/**
 * What a service's container sees: what is public of the job, what the operator and the runner set, and what was written down for
 * this service, which may name anything. Values of the former are without what is secret, and the operator's own secrets are none
 * of a service's business.
 */
export function serviceVariables(
  { open, expandWith }: Pick<PreparedVariables, "open" | "expandWith">,
  own: WantedService["variables"],
  withheld: Withheld = withheldByName,
): string[] {
  const shared = open.filter((variable) => !withheld(variable));
  const values = new Map(shared.map(({ key, value }) => [key, value]));
  const written = new Map(own.map(({ key, value }) => [key, value]));
  let bytes = 0;
  const count = (key: string, text: string): void => {
    bytes += Buffer.byteLength(text);
    if (bytes <= MOST_SERVICE_BYTES) return;
    throw new ScriptFailure(
      `The variables for a service have more than ${MOST_SERVICE_BYTES} bytes together; the one too many is ${JSON.stringify(key.slice(0, 100))}`,
    );
  };
  for (const [key, value] of values) count(key, value);
  for (const { key, value, raw } of own) {
    const expanded = raw ? value : expandWith(without(written, key), value);
    count(key, expanded);
    values.set(key, expanded);
  }
  return asEnvironment(values);
}

/** How much of a job's variables an ENTRYPOINT sees: `entrypoint_variables`. */
export const ENTRYPOINT_VARIABLES = ["public", "all", "none"] as const;
export type EntrypointVariables = (typeof ENTRYPOINT_VARIABLES)[number];

/** All of them together, as of what is public. */
const MOST_ENTRYPOINT_CHARACTERS = 512 * 1024;

/**
 * What an ENTRYPOINT sees of a job's variables: what scripts will see, but for what would change how the runner's own programs run in
 * the container, and for secrets, unless the operator wants them there.
 */
export function entrypointVariables(
  { open, withSecrets }: Pick<PreparedVariables, "open" | "withSecrets">,
  which: EntrypointVariables,
): string[] {
  if (which === "none") return [];
  if (which === "all") {
    let characters = 0;
    const fitting = withSecrets().filter(({ key, value }) => {
      characters += key.length + value.length;
      return characters <= MOST_ENTRYPOINT_CHARACTERS;
    });
    return asEnvironment(new Map(fitting.map(({ key, value }) => [key, value])));
  }
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
