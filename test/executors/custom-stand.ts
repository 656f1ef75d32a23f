/** Drivers for the custom executor, and executors that use them. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import custom from "../../executors/custom/index.ts";
import { customTable } from "../../executors/custom/settings.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { Log } from "../../src/log.ts";
import { type DepsOptions, executorDeps } from "../support/executor-deps.ts";

const drivers = join(import.meta.dirname, "../support/drivers");
const runHere = join(drivers, "run-here.sh");
export const chrootDriver = join(drivers, "chroot.sh");
export const nspawnDriver = join(drivers, "nspawn.sh");

/** The reason for leaving out tests: the driver has to end what its scripts leave, by its cleanup_exec. */
const THE_DRIVERS = "the driver and its cleanup_exec end what scripts leave";

export const leftToDrivers = [
  "a person's terminal is in the checkout, outlives scripts, and ends with all that was started in it",
  "what a script left running is ended and named, also with a session of its own and its output kept",
  "stopping ends all of it: what ignores SIGTERM, has its own session, is stopped, or holds the output",
].map((test) => ({ test, because: THE_DRIVERS }));

export interface CustomStand {
  readonly dir: string;
  /** What was logged, one line each. */
  readonly logged: string[];
  /** A driver's program with this text. */
  program(name: string, text: string): string;
  open(table: Readonly<Record<string, unknown>>, deps?: DepsOptions): Executor;
  close(): void;
}

export function openCustomStand(): CustomStand {
  const dir = mkdtempSync(join(tmpdir(), "alloy-custom-test-"));
  const logged: string[] = [];
  const take = (message: string, fields?: Readonly<Record<string, unknown>>): void => {
    logged.push(`${message} ${JSON.stringify(fields ?? {})}`);
  };
  const log: Log = { debug: take, info: take, warn: take, error: take, child: () => log };
  mkdirSync(join(dir, "scratch"));
  return {
    dir,
    logged,
    program(name, text) {
      const path = join(dir, name);
      writeFileSync(path, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
      return path;
    },
    open: (table, deps = {}) =>
      withNames(
        custom.create(
          {
            custom: customTable.parse({
              run_exec: runHere,
              graceful_kill_timeout: 1,
              force_kill_timeout: 2,
              ...table,
            }),
          },
          executorDeps(dir, { log, buildsDir: join(dir, "builds"), killGraceMs: 1000, ...deps }),
        ),
      ),
    close() {
      if (existsSync(dir)) rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Gives jobs the names that drivers use for their machines and that come from coordinators. */
function withNames(executor: Executor): Executor {
  const variable = (key: string, value: string) => ({
    key,
    value,
    public: true,
    file: false,
    masked: false,
    raw: true,
  });
  return {
    ...executor,
    prepare: (request, notes, signal) =>
      executor.prepare(
        {
          ...request,
          variablesAt: (place) => [
            ...request.variablesAt(place),
            variable("CI_RUNNER_ID", "12"),
            variable("CI_PROJECT_ID", request.job.projectId),
            variable("CI_JOB_ID", request.job.id),
            variable("CI_CONCURRENT_PROJECT_ID", String(place.projectSlot)),
            variable("CI_PROJECT_DIR", place.root),
          ],
        },
        notes,
        signal,
      ),
  };
}
