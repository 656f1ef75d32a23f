import { describeError } from "../../../errors.ts";
import type { Log } from "../../../log.ts";

type Fields = Readonly<Record<string, unknown>>;

/** Texts within fields of fields; deeper ones are not logged either. */
const DEEPEST = 4;

export interface MaskedLog extends Log {
  /** From now on, for this log and its children. */
  maskBy(mask: (text: string) => string): void;
}

/** A log whose lines are masked as the job's trace is: messages, and all texts in their fields. */
export function maskedLog(log: Log, first: (text: string) => string): MaskedLog {
  let current = first;
  const maskBy = (next: (text: string) => string): void => {
    current = next;
  };
  return { ...over(log, (text) => current(text)), maskBy };
}

function over(log: Log, mask: (text: string) => string): Log {
  const maskedValue = (value: unknown, depth: number): unknown => {
    if (typeof value === "string") return mask(value);
    if (value instanceof Error) return mask(describeError(value));
    if (typeof value !== "object" || value === null || value instanceof URL) return value;
    if (depth === DEEPEST) return "…";
    if (Array.isArray(value)) return value.map((one) => maskedValue(one, depth + 1));
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, maskedValue(one, depth + 1)]));
  };
  const masked = (fields: Fields | undefined): Fields | undefined =>
    fields && Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, maskedValue(value, 1)]));
  return {
    debug: (message, fields) => log.debug(mask(message), masked(fields)),
    info: (message, fields) => log.info(mask(message), masked(fields)),
    warn: (message, fields) => log.warn(mask(message), masked(fields)),
    error: (message, fields) => log.error(mask(message), masked(fields)),
    child: (fields) => over(log.child(masked(fields) ?? {}), mask),
  };
}
