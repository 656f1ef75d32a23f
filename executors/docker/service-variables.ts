import { ScriptFailure } from "../../src/errors.ts";
import type { Variable } from "../../src/job/job.ts";

/** Of all that one service's container is given, and of what references in it stand for. */
export const MOST_SERVICE_BYTES = 1024 * 1024;

/**
 * What a service's container sees: the job's public variables, and those that were written down for this service. Values of the
 * former take other public ones only; anything else would hand out what is secret by a detour.
 */
export function serviceVariables(
  jobVariables: readonly Variable[],
  own: readonly { readonly key: string; readonly value: string }[],
  expand: (text: string) => string,
): string[] {
  const values = new Map<string, string>();
  const open = jobVariables.filter((variable) => variable.public && !variable.masked && !variable.file);
  const raw = new Map(open.map(({ key, value }) => [key, value]));
  const isOpen = new Set(open);
  const secret = new Set(jobVariables.filter((variable) => !isOpen.has(variable)).map(({ key }) => key));
  let bytes = 0;
  const count = (key: string, text: string): void => {
    bytes += Buffer.byteLength(text);
    if (bytes <= MOST_SERVICE_BYTES) return;
    throw new ScriptFailure(
      `The variables for a service have more than ${MOST_SERVICE_BYTES} bytes together; the one too many is ${JSON.stringify(key.slice(0, 100))}`,
    );
  };
  for (const variable of open) {
    if (secret.has(variable.key)) continue; // a later, secret value of the same name
    const value = variable.raw
      ? variable.value
      : variable.value.replace(/\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})/g, (_, bare, braced) => {
          const name = String(bare ?? braced);
          const referred = secret.has(name) ? "" : (raw.get(name) ?? "");
          count(variable.key, referred);
          return referred;
        });
    count(variable.key, variable.value);
    values.set(variable.key, value);
  }
  for (const { key, value } of own) {
    const expanded = value.includes("$") ? expand(value) : value;
    count(key, expanded);
    values.set(key, expanded);
  }
  return [...values]
    .filter(([key, value]) => /^[^=\0]+$/.test(key) && !value.includes("\0"))
    .map(([key, value]) => `${key}=${value}`);
}
