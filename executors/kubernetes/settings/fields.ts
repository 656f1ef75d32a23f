import { z } from "zod";
import { parseDuration } from "../../../src/config/units.ts";
import { type Pattern, parsePattern } from "../../common/pattern.ts";
import { parsed, table } from "../../images/fields.ts";
import { parseQuantity, type Quantity } from "./quantity.ts";

/** An empty text is what registration has always written for "not set". */
export const quantity = parsed(
  z.union([z.string(), z.number()]),
  (value): Quantity | "unset" | null => (String(value).trim() === "" ? "unset" : parseQuantity(String(value))),
  'a quantity above zero such as "500m", "2" or "1Gi"',
)
  .optional()
  .transform((value) => (value === "unset" ? undefined : value));

export const pattern = parsed(
  z.string(),
  (value): Pattern | "unset" | null => (value === "" ? "unset" : parsePattern(value)),
  "a regular expression that is known here and in Go",
)
  .optional()
  .transform((value) => (value === "unset" ? undefined : value));

/** A name as Kubernetes gives it to objects. */
const LABEL = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?$/;

const named = (form: RegExp, expected: string) =>
  parsed(
    z.string(),
    (value): string | null => (value.trim() === "" || form.test(value.trim()) ? value.trim() : null),
    expected,
  )
    .optional()
    .transform((value) => (value === "" ? undefined : value));

export const dnsLabel = named(LABEL, 'a name of small letters, digits and "-", at most 63 characters');
export const dnsSubdomain = named(SUBDOMAIN, 'a name of small letters, digits, "-" and "."');

export const isDnsLabel = (text: string): boolean => LABEL.test(text);
export const isDnsSubdomain = (text: string): boolean => SUBDOMAIN.test(text);

const KEY = /^(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;

/** What the API takes for the name of a label or an annotation: `team`, `example.com/team`. */
export const isLabelKey = (text: string): boolean => KEY.test(text);

/** Labels or annotations. */
export const labelled = table.superRefine((given, context) => {
  for (const key of Object.keys(given)) {
    if (isLabelKey(key)) continue;
    context.addIssue({ code: "custom", path: [key], message: 'expected a name such as "team" or "example.com/team"' });
  }
});

export const duration = parsed(
  z.union([z.string(), z.number()]),
  (value): number | null => {
    const ms = parseDuration(String(value));
    return ms !== null && ms > 0 ? ms : null;
  },
  'a duration such as "5m" or "300s"',
);

/** Where zero and less stand for the default, as in the Go runner. */
export const positiveOr = (fallback: number) =>
  z
    .number()
    .int()
    .default(fallback)
    .transform((value) => (value <= 0 ? fallback : value));

export const maybe = z.boolean().optional();
export const id = z.number().int().min(0).optional();
export const numericIds = z.array(
  z.string().regex(/^\d{1,10}$/, 'expected the number of a user or group, such as "1000"'),
);

/** Of the words that a Kubernetes field takes: in any case and with dashes, or as Kubernetes writes them. */
export function words<T extends string>(known: readonly T[]) {
  const fold = (word: string): string => word.toLowerCase().replaceAll("-", "");
  return parsed(
    z.string(),
    (value): T | "" | null => (value === "" ? "" : (known.find((one) => fold(one) === fold(value)) ?? null)),
    known.map((one) => `"${one}"`).join(", "),
  )
    .optional()
    .transform((value) => (value === "" ? undefined : value));
}

/** An object without its fields that are not set, or `undefined` where none is. */
export function filled<T extends object>(object: T): Record<string, unknown> | undefined {
  const set = Object.entries(object).filter(([, value]) => value !== undefined);
  return set.length === 0 ? undefined : Object.fromEntries(set);
}
