import type { OpenVariable } from "../../executor/prepare.ts";
import { expandReferences, parseReferences } from "./expand.ts";
import { isRedirecting } from "./runner-variables.ts";

/** What is told of a variable's definition here. */
export interface OpenDefinition {
  readonly key: string;
  readonly value: string;
  readonly expands: boolean;
  /** Its value is for the job's own scripts only. */
  readonly hidden: boolean;
  readonly origin: "operator" | "runner" | "job";
}

/** Names of variables whose values nobody wants to have in a container's settings, whoever says that they are public. */
const SECRET_NAME =
  /TOKEN|PASSW|PASSPHRASE|SECRET|CREDENTIAL|JWT|(?:^|_)(?:API)?KEY$|(?:^|_)PRIVATE_|^DOCKER_AUTH_CONFIG$/i;

/** All of them together; an environment holds little more, and a chain of references makes much out of little. */
const MOST_CHARACTERS = 512 * 1024;

/**
 * The last definition of each name that is nobody's secret, with what others may read: a reference to a secret one is empty, and
 * makes the value incomplete. A name that is hidden once is hidden.
 */
export function openVariables(definitions: readonly OpenDefinition[]): OpenVariable[] {
  const hidden = new Set(definitions.filter((definition) => definition.hidden).map(({ key }) => key));
  const last = new Map<string, OpenDefinition>();
  for (const definition of definitions) {
    last.delete(definition.key);
    if (!hidden.has(definition.key)) last.set(definition.key, definition);
  }
  const found: OpenVariable[] = [];
  let characters = 0;
  for (const { key, value: written, expands, origin } of last.values()) {
    const references = expands
      ? parseReferences(written).flatMap((piece) => ("name" in piece ? [piece.name] : []))
      : [];
    const readable = (name: string): string => (name === key ? "" : (last.get(name)?.value ?? ""));
    const value = expands ? expandReferences(written, readable) : written;
    characters += key.length + value.length;
    if (characters > MOST_CHARACTERS) break;
    found.push({
      key,
      value,
      complete: !references.some((name) => name === key || hidden.has(name)),
      secretName: SECRET_NAME.test(key),
      ofOperator: origin === "operator",
      redirecting: origin === "job" && isRedirecting(key, value),
    });
  }
  return found;
}
