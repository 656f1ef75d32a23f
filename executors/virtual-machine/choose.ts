import { z } from "zod";
import { ScriptFailure } from "../../src/errors.ts";
import type { Notes, PrepareRequest } from "../../src/executor/prepare.ts";
import { LONGEST_VALUE, type Pattern, parsePattern } from "../common/pattern.ts";
import { isMachineName } from "./kept.ts";

const name = z.string().trim();

/** A machine's name as it is looked for: a command line would take one with a dash for an option. */
export const machineNameSchema = name.refine(
  (text) => !text.startsWith("-"),
  "expected the name of a virtual machine, which does not begin with a dash",
);

export const allowedImages = z
  .array(z.string().refine((text) => parsePattern(text) !== null, "expected a regular expression"))
  .optional();

/** The patterns of a table that was checked. */
export function patternsOf(texts: readonly string[] = []): Pattern[] {
  return texts.flatMap((text) => parsePattern(text) ?? []);
}

/** Seconds until the sshd of a copy must answer; 0 is the default. */
export const bootTimeout = z.int().min(0).max(86_400).optional();

const DEFAULT_BOOT_S = 300;

export function bootMsOf(seconds: number | undefined): number {
  return (seconds || DEFAULT_BOOT_S) * 1000;
}

export interface BaseChoice {
  /** `virtualbox` */
  readonly table: string;
  readonly baseName: string;
  readonly allowedImages: readonly Pattern[];
}

/**
 * The machine that the job is to have a copy of: the entry's, or the one that the job names as its `image` where that is allowed.
 * @throws {ScriptFailure} it is not
 */
export function chooseBase(
  { table, baseName, allowedImages: patterns }: BaseChoice,
  { job, expand }: Pick<PrepareRequest, "job" | "expand">,
  notes: Notes,
): string {
  const wanted = job.image === null ? "" : expand(job.image.name).trim();
  if (wanted === "" || wanted === baseName) return baseName;
  const shown = JSON.stringify(wanted.slice(0, LONGEST_VALUE));
  if (patterns.length === 0) {
    notes.print(
      `The job names the image ${shown}, and the runner lets jobs choose none (allowed_images in [runners.${table}]): it gets a copy of "${baseName}"`,
      "warning",
    );
    return baseName;
  }
  if (wanted.startsWith("-") || /[\0-\x1f]/.test(wanted)) {
    throw new ScriptFailure(`The image ${shown} of the job cannot be the name of a virtual machine`);
  }
  if (isMachineName(wanted)) {
    throw new ScriptFailure(`The virtual machine ${shown} is another job's: it can be nobody's image`);
  }
  if (patterns.some((pattern) => pattern.matches(wanted))) return wanted;
  const list = patterns.map(({ text }) => text).join(", ");
  const part = patterns.find((pattern) => pattern.matchesPart(wanted));
  const hint = part === undefined ? "" : `. ${part.text} fits a part of it: an expression has to cover the whole name`;
  throw new ScriptFailure(
    `The virtual machine ${shown} is not allowed on this runner. Allowed are "${baseName}" and what fits ${list} (allowed_images in [runners.${table}])${hint}`,
  );
}
