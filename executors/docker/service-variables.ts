import type { Variable } from "../../src/job/job.ts";

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
  const secret = new Set(jobVariables.filter((variable) => !open.includes(variable)).map(({ key }) => key));
  for (const variable of open) {
    if (secret.has(variable.key)) continue; // a later, secret value of the same name
    const value = variable.raw
      ? variable.value
      : variable.value.replace(/\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})/g, (_, bare, braced) => {
          const name = String(bare ?? braced);
          return secret.has(name) ? "" : (raw.get(name) ?? "");
        });
    values.set(variable.key, value);
  }
  for (const { key, value } of own) values.set(key, expand(value));
  return [...values]
    .filter(([key, value]) => /^[^=\0]+$/.test(key) && !value.includes("\0"))
    .map(([key, value]) => `${key}=${value}`);
}
