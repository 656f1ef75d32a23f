import { z } from "zod";
import { PULL_POLICIES, type PullPolicy, type ServiceSetting } from "./policy.ts";

/** Fields of TOML tables that executors with images have in common. */

export const text = z.string().default("");
export const optionalText = z
  .string()
  .optional()
  .transform((value) => (value === undefined || value.trim() === "" ? undefined : value.trim()));
export const texts = z.array(z.string().min(1, "is empty. Remove it, or write a value")).default([]);
export const table = z.record(z.string(), z.string()).default({});
export const natural = z.number().int().min(0);

/** A text or number that `parse` understands, or a problem that says what was expected. */
export function parsed<Input, Value>(input: z.ZodType<Input>, parse: (value: Input) => Value | null, expected: string) {
  return input.transform((value, context): Value => {
    const result = parse(value);
    if (result !== null) return result;
    context.addIssue({ code: "custom", message: `expected ${expected}` });
    return z.NEVER;
  });
}

const isPolicy = (value: string): value is PullPolicy => PULL_POLICIES.some((policy) => policy === value);

/** One policy, or several that are tried in turn. */
export const policies = z
  .union([z.string(), z.array(z.string())])
  .default([])
  .transform((value, context): readonly PullPolicy[] => {
    const given = typeof value === "string" ? (value === "" ? [] : [value]) : value;
    for (const [index, each] of given.entries()) {
      if (isPolicy(each)) continue;
      context.addIssue({
        code: "custom",
        ...(typeof value === "string" ? {} : { path: [index] }),
        message: `expected ${PULL_POLICIES.map((name) => `"${name}"`).join(", ")}`,
        params: { names: PULL_POLICIES },
      });
    }
    return [...new Set(given.filter(isPolicy))];
  });

const variable = parsed(
  z.string(),
  (value) => {
    const split = value.indexOf("=");
    return split < 1 ? null : { key: value.slice(0, split), value: value.slice(split + 1) };
  },
  'a variable such as "NAME=value"',
);
export const service = z
  .union([
    z
      .string()
      .min(1)
      .transform((name) => ({ name })),
    z.object({
      name: z.string().min(1),
      alias: z.string().optional(),
      entrypoint: z.array(z.string()).optional(),
      command: z.array(z.string()).optional(),
      environment: z.array(variable).optional(),
    }),
  ])
  .transform(
    (given): ServiceSetting => ({
      name: given.name,
      aliases: "alias" in given ? (given.alias ?? "").split(/[\s,]+/).filter((alias) => alias !== "") : [],
      entrypoint: ("entrypoint" in given ? given.entrypoint : undefined) ?? null,
      command: ("command" in given ? given.command : undefined) ?? null,
      variables: ("environment" in given ? given.environment : undefined) ?? [],
    }),
  );

/** Names and globs of variables of `environment`; absent: those that sound like a password. */
export const servicesEnvironmentExclude = z.array(z.string().min(1, "is empty. Remove it, or write a name")).optional();
