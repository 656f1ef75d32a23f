import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { z } from "zod";
import { nearest } from "../../config/check/keys.ts";
import { ConfigError } from "../../errors.ts";
import { isWire, type Wire } from "../coordinator/http/wire.ts";
import { kindOf, pathText, valueAt } from "../issue-text.ts";
import { JOB_KEYS, jobSchema, RESERVED_KEYS, SUB_KEYS, topSchema } from "./ci-schema.ts";
import { readCiText } from "./ci-text.ts";

/** When a job starts, relative to all stages before its own. */
type CiWhen = "on_success" | "on_failure" | "always" | "manual";

/** A job of a CI file, with what it takes over from the top of the file. */
export interface CiJob {
  readonly name: string;
  readonly stage: string;
  /** `before_script` and `script`, one after the other. */
  readonly script: readonly string[];
  /** As it was written: a list, or one text. */
  readonly afterScript: string | readonly string[] | undefined;
  readonly variables: Wire;
  readonly image: string | Wire | undefined;
  readonly services: readonly (string | Wire)[];
  readonly artifacts: Wire | undefined;
  readonly cache: Wire | undefined;
  readonly tags: readonly string[] | null;
  /** `null`: every ref. */
  readonly only: readonly string[] | null;
  readonly except: readonly string[];
  readonly when: CiWhen;
  readonly allowFailure: boolean;
  /** Names of jobs of earlier stages whose artifacts it gets; `null`: all of them. */
  readonly dependencies: readonly string[] | null;
  readonly line: number;
}

export interface CiFile {
  /** As it was opened; messages name it. */
  readonly file: string;
  readonly stages: readonly string[];
  /** In the order of the file. */
  readonly jobs: readonly CiJob[];
  /** What has no effect or looks misspelt: one sentence each, with line and column. */
  readonly warnings: readonly string[];
}

/** Names that a project's CI file can have, in the order in which they are tried. */
export const CI_FILE_NAMES: readonly string[] = [".alloy-ci.yml", ".alloy-ci.json"];

export const GITLAB_FILE_NAME = ".gitlab-ci.yml";

/**
 * The CI file of the project in `dir`.
 * @param shownIn how messages name the directory, such as `.`
 * @throws {ConfigError} there is none, or it cannot be used
 */
export async function loadCiFile(dir: string, shownIn: string = dir): Promise<CiFile> {
  for (const name of CI_FILE_NAMES) {
    const file = join(shownIn, name);
    const text = await readFile(join(dir, name), "utf8").catch((cause: unknown) => {
      if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined;
      throw new ConfigError(`Cannot read ${file}`, { file, cause });
    });
    if (text !== undefined) return parseCiFile(text, file);
  }
  throw new ConfigError(`No CI file in ${dir}: expected ${CI_FILE_NAMES.join(" or ")}`, { file: dir });
}

/**
 * The text of a CI file (YAML or JSON) → its jobs, read as AlloyCI reads it: a job's value replaces the one at the top
 * of the file as a whole, names that begin with a dot are templates, and every other unknown name is a job.
 * @throws {ConfigError} with every mistake on a line of its own: file, line, column, what was expected
 */
export function parseCiFile(text: string, file: string): CiFile {
  const source = readCiText(text, file);
  const mistakes: Mistake[] = [];
  const warnings: string[] = [];
  const { value, texts } = source;
  const warn = (path: readonly PropertyKey[], sentence: string): void => {
    warnings.push(`${source.at(path)}: ${sentence}`);
  };

  const checked = topSchema.safeParse(value);
  if (!checked.success) collect(mistakes, [], checked.error, value);
  const top = checked.success ? topSchema.parse(texts) : {};
  const stages = top.stages ?? ["build", "test", "deploy"];
  const jobs: CiJob[] = [];
  for (const [name, table] of Object.entries(value)) {
    if (name.startsWith(".") || RESERVED_KEYS.includes(name)) continue;
    const hint = didYouMean(name, RESERVED_KEYS);
    if (FOREIGN_KEYS.includes(name) && !(isWire(table) && table.script !== undefined)) {
      const text = `"${name}" is GitLab's and AlloyCI does not know it: all jobs and settings stand in this one file`;
      mistakes.push({ path: [name], text });
      continue;
    }
    if (!isWire(table)) {
      mistakes.push({
        path: [name],
        text: `"${name}" is not a keyword, and a job must be a table with a script${hint}`,
      });
      continue;
    }
    if (table.script === undefined || table.script === null) {
      const other = Object.keys(table).find((key) => !JOB_KEYS.includes(key) && nearest(key, ["script"]) !== undefined);
      const meant = other === undefined ? hint : `; did you mean "script" where it says "${other}"?`;
      mistakes.push({ path: [name], text: `job "${name}" has no script${meant}` });
      continue;
    }
    const job = jobSchema.safeParse(table);
    if (!job.success) {
      collect(mistakes, [name], job.error, table);
      continue;
    }
    for (const key of Object.keys(table))
      if (!JOB_KEYS.includes(key))
        warn([name, key], `"${key}" in job "${name}" has no effect${didYouMean(key, JOB_KEYS)}`);
    const data = jobSchema.parse(texts[name]);
    const stage = data.stage ?? "test";
    if (!stages.includes(stage)) {
      const text = `stage "${stage}" of job "${name}" is not one of ${stages.join(", ")}${didYouMean(stage, stages)}`;
      mistakes.push({ path: [name, "stage"], text });
    }
    const when = data.when ?? "on_success";
    const afterScript = data.after_script ?? top.after_script;
    jobs.push({
      name,
      stage,
      script: [...(data.before_script ?? top.before_script ?? []), ...data.script],
      afterScript: afterScript?.length === 0 ? undefined : (afterScript ?? undefined),
      variables: data.variables ?? top.variables ?? {},
      image: data.image ?? top.image ?? undefined,
      services: data.services ?? top.services ?? [],
      artifacts: data.artifacts ?? undefined,
      cache: data.cache ?? top.cache ?? undefined,
      tags: data.tags ?? null,
      only: data.only ?? null,
      except: data.except ?? [],
      when,
      allowFailure: data.allow_failure ?? when === "manual",
      // An empty list has the effect of none at all.
      dependencies: (data.dependencies ?? []).length === 0 ? null : (data.dependencies ?? null),
      line: source.lineOf([name]),
    });
  }
  checkDependencies(jobs, stages, mistakes);
  warnAboutSubKeys(value, warn);
  if (jobs.length === 0 && mistakes.length === 0) mistakes.push({ path: [], text: "there is no job in this file" });
  if (mistakes.length > 0) {
    const lines = mistakes.map((mistake) => `${source.at(mistake.path)}: ${mistake.text}`);
    throw new ConfigError(lines.join("\n"), { file, line: source.lineOf(mistakes[0]?.path ?? []) });
  }
  return { file, stages, jobs, warnings };
}

/** Not jobs, for whoever comes from GitLab. */
const FOREIGN_KEYS: readonly string[] = ["include", "default", "workflow", "spec"];

interface Mistake {
  readonly path: readonly PropertyKey[];
  readonly text: string;
}

/** zod's issues as sentences: their messages are what was expected. */
function collect(to: Mistake[], prefix: readonly string[], error: z.ZodError, value: unknown): void {
  for (const { path, message } of error.issues) {
    const full = [...prefix, ...path];
    const name = pathText(full);
    const found = valueAt(value, path);
    const hint = /^(number|boolean|bigint)$/.test(typeof found) ? " (put it in quotes to make it a text)" : "";
    to.push({ path: full, text: `${name === "" ? "the file" : name} must be ${message}, not ${kindOf(found)}${hint}` });
  }
}

function didYouMean(word: string, candidates: readonly string[]): string {
  const found = nearest(word, candidates);
  return found === undefined ? "" : `; did you mean "${found}"?`;
}

function checkDependencies(jobs: readonly CiJob[], stages: readonly string[], mistakes: Mistake[]): void {
  for (const { name, stage, dependencies } of jobs)
    for (const [index, dependency] of (dependencies ?? []).entries()) {
      const other = jobs.find((job) => job.name === dependency);
      const path = [name, "dependencies", index];
      if (other === undefined) {
        const hint = didYouMean(
          dependency,
          jobs.map((job) => job.name),
        );
        mistakes.push({ path, text: `job "${name}" depends on "${dependency}", and there is no such job${hint}` });
      } else if (stages.indexOf(other.stage) >= stages.indexOf(stage)) {
        const text = `job "${name}" depends on "${dependency}", which is not in an earlier stage`;
        mistakes.push({ path, text });
      }
    }
}

/** Tables such as `artifacts` go to the runner as they are, so only a near miss of a known key is worth a word. */
function warnAboutSubKeys(value: Wire, warn: (path: readonly PropertyKey[], sentence: string) => void): void {
  const check = (path: readonly string[], table: unknown, keyword: string): void => {
    const known = SUB_KEYS[keyword] ?? [];
    if (!isWire(table)) return;
    for (const key of Object.keys(table)) {
      const meant = known.includes(key) ? undefined : nearest(key, known);
      if (meant !== undefined)
        warn([...path, key], `"${key}" in ${path.join(".")} is not known; did you mean "${meant}"?`);
    }
  };
  for (const [name, table] of Object.entries(value)) {
    check([name], table, name);
    if (isWire(table) && !RESERVED_KEYS.includes(name))
      for (const keyword of Object.keys(SUB_KEYS)) check([name, keyword], table[keyword], keyword);
  }
}
