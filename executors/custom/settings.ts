import { z } from "zod";

const text = z.string();
const list = z.array(text).optional();
const seconds = z.int().max(100_000_000).optional();

/** `[runners.custom]`, as GitLab Runner has it. */
export const customTable = z.object({
  config_exec: text.optional(),
  config_args: list,
  config_exec_timeout: seconds,
  prepare_exec: text.optional(),
  prepare_args: list,
  prepare_exec_timeout: seconds,
  run_exec: text.refine((value) => value.trim() !== "", "expected a program: the one that runs a job's scripts"),
  run_args: list,
  cleanup_exec: text.optional(),
  cleanup_args: list,
  cleanup_exec_timeout: seconds,
  graceful_kill_timeout: seconds,
  force_kill_timeout: seconds,
});

export type CustomTable = z.output<typeof customTable>;

const PROGRAMS = ["config_exec", "prepare_exec", "run_exec", "cleanup_exec"] as const;
export type ProgramKey = (typeof PROGRAMS)[number];

/** A program of the operator's. */
export interface DriverProgram {
  readonly key: ProgramKey;
  /** The path as it is written in the table. */
  readonly path: string;
  readonly args: readonly string[];
  /** Infinity: only the job's own limit holds. */
  readonly timeoutMs: number;
}

export interface KillLimits {
  /** Time from SIGTERM to SIGKILL. */
  readonly gracefulMs: number;
  /** Time from SIGKILL until the runner gives up. */
  readonly forceMs: number;
}

export interface CustomSettings extends KillLimits {
  readonly config: DriverProgram | null;
  readonly prepare: DriverProgram | null;
  readonly run: DriverProgram;
  readonly cleanup: DriverProgram | null;
}

const DEFAULT_TIMEOUT_S = 3600;
const DEFAULT_GRACEFUL_S = 600;
const DEFAULT_FORCE_S = 10;

/** A value that is absent, 0 or negative means the default. */
function msOf(value: number | undefined, fallback: number): number {
  return (value !== undefined && value > 0 ? value : fallback) * 1000;
}

export function customSettings(table: CustomTable): CustomSettings {
  const program = (
    key: ProgramKey,
    path: string | undefined,
    args: readonly string[] = [],
    timeout?: number,
  ): DriverProgram | null =>
    path === undefined || path.trim() === "" ? null : { key, path, args, timeoutMs: msOf(timeout, DEFAULT_TIMEOUT_S) };
  return {
    config: program("config_exec", table.config_exec, table.config_args, table.config_exec_timeout),
    prepare: program("prepare_exec", table.prepare_exec, table.prepare_args, table.prepare_exec_timeout),
    run: { key: "run_exec", path: table.run_exec, args: table.run_args ?? [], timeoutMs: Number.POSITIVE_INFINITY },
    cleanup: program("cleanup_exec", table.cleanup_exec, table.cleanup_args, table.cleanup_exec_timeout),
    gracefulMs: msOf(table.graceful_kill_timeout, DEFAULT_GRACEFUL_S),
    forceMs: msOf(table.force_kill_timeout, DEFAULT_FORCE_S),
  };
}

/** The programs that the table names, where it names them. */
export function programsOf(table: CustomTable): { readonly key: ProgramKey; readonly program: string }[] {
  return PROGRAMS.flatMap((key) => {
    const program = table[key];
    return program === undefined || program.trim() === "" ? [] : [{ key, program }];
  });
}
