import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { parseDuration } from "../../config/units.ts";
import { CommandError, describeError } from "../../errors.ts";
import type { VariableSpec } from "../../local/coordinator/jobs/job.ts";
import type { CommandContext } from "../context.ts";
import { type FlagValues, textOf } from "../register/runner-flags.ts";

/** What `exec` was asked for. */
export interface ExecOptions {
  /** Names of jobs; none: the pipeline. */
  readonly jobs: readonly string[];
  readonly needs: boolean;
  readonly parallel: number;
  readonly committed: boolean;
  readonly ref: string | undefined;
  /** They win over those of the file; masked where they came from `--env-file`. */
  readonly variables: readonly VariableSpec[];
  readonly timeoutSeconds: number;
  readonly address: string | undefined;
  readonly mode: "run" | "list" | "dry-run";
}

/** AlloyCI's. */
const TIMEOUT_SECONDS = 3600;

/** @throws {CommandError} what cannot be used, and what was expected */
export async function readExecOptions(
  jobs: readonly string[],
  values: FlagValues,
  context: Pick<CommandContext, "cwd" | "env">,
  processors: number,
): Promise<ExecOptions> {
  if (values.list === true && values.dryRun === true) throw new CommandError("Choose one of --list and --dry-run");
  const parallel = textOf(values, "jobs");
  if (parallel !== undefined && !/^[1-9]\d{0,3}$/.test(parallel))
    throw new CommandError(`--jobs is the number of jobs at once, from 1 to 9999, not "${parallel}"`);
  if (values.withNeeds === true && jobs.length === 0)
    throw new CommandError("--with-needs is for named jobs: without names all jobs run anyway");
  return {
    jobs,
    needs: values.withNeeds === true,
    parallel: parallel === undefined ? Math.max(1, processors) : Number(parallel),
    committed: values.committed === true,
    ref: textOf(values, "ref"),
    variables: [
      ...(await Promise.all(listOf(values.envFile).map((file) => readEnvFile(file, context.cwd)))).flat(),
      ...listOf(values.var).map((text) => readVariable(text, context.env)),
    ],
    timeoutSeconds: readTimeout(textOf(values, "timeout")),
    address: textOf(values, "address"),
    mode: values.list === true ? "list" : values.dryRun === true ? "dry-run" : "run",
  };
}

function listOf(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** `NAME=value`, or `NAME` alone for what the environment has. */
function readVariable(text: string, env: CommandContext["env"]): VariableSpec {
  const split = text.indexOf("=");
  const key = split < 0 ? text : text.slice(0, split);
  if (!NAME.test(key))
    throw new CommandError(`--var is NAME=value or the NAME of an environment variable, not "${key}"`);
  const value = split < 0 ? env[key] : text.slice(split + 1);
  if (value === undefined) throw new CommandError(`--var ${key}: there is no environment variable of that name`);
  return { key, value };
}

/** `NAME=value` lines, `#` comments, `export` in front, quotes around; as docker and dotenv read them. */
async function readEnvFile(name: string, cwd: string): Promise<VariableSpec[]> {
  const file = resolve(cwd, name);
  const text = await readFile(file, "utf8").catch((cause: unknown) => {
    throw new CommandError(`--env-file ${name} cannot be read: ${describeError(cause)}`, { cause });
  });
  return text
    .replace(/^\uFEFF/, "")
    .split(/\r?\n/)
    .flatMap((line, index): VariableSpec[] => {
      const trimmed = line.trim().replace(/^export\s+/, "");
      if (trimmed === "" || trimmed.startsWith("#")) return [];
      const split = trimmed.indexOf("=");
      const key = trimmed.slice(0, Math.max(0, split)).trimEnd();
      // Not shown: it may be a value.
      if (!NAME.test(key)) throw new CommandError(`${name}:${index + 1}: expected NAME=value`);
      return [{ key, value: unquote(trimmed.slice(split + 1).trimStart()), masked: true }];
    });
}

function unquote(text: string): string {
  const single = /^'([^']*)'\s*(?:#.*)?$/.exec(text)?.[1];
  if (single !== undefined) return single;
  const double = /^"((?:[^"\\]|\\.)*)"\s*(?:#.*)?$/.exec(text)?.[1];
  if (double === undefined) return text.replace(/\s+#.*$/, "");
  return double.replace(/\\(.)/g, (_, sign: string) => ({ n: "\n", t: "\t", r: "\r" })[sign] ?? sign);
}

function readTimeout(text: string | undefined): number {
  if (text === undefined) return TIMEOUT_SECONDS;
  const seconds = Math.ceil((parseDuration(text) ?? 0) / 1000);
  if (seconds === 0) throw new CommandError(`--timeout is a number of seconds, or such as 90s, 15m, 2h; not "${text}"`);
  return seconds;
}
