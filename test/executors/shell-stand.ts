import { chmodSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import shell from "../../executors/shell/index.ts";
import type { Executor } from "../../src/executor/executor.ts";
import { never } from "../../src/time.ts";
import { type DepsOptions, executorDeps } from "../support/executor-deps.ts";
import { Sink, sampleRequest } from "../support/executor-kit.ts";

export function newDirectory(): string {
  const dir = mkdtempSync(join(tmpdir(), "alloy-executor-"));
  chmodSync(dir, 0o755);
  return dir;
}

export function openIn(dir: string, options: DepsOptions = {}): Executor {
  mkdirSync(join(dir, "scratch"), { recursive: true, mode: 0o700 });
  const ownProgram = [process.execPath, join(import.meta.dirname, "../../src/main.ts")] as const;
  return shell.create({}, executorDeps(dir, { killGraceMs: 1000, ownProgram, ...options }));
}

/** A directory and an executor in it; both are removed after the test. */
export function opened(options: DepsOptions = {}): { dir: string; executor: Executor } {
  const dir = newDirectory();
  const executor = openIn(dir, options);
  onTestFinished(async () => {
    await executor.close(never);
    rmSync(dir, { recursive: true, force: true });
  });
  return { dir, executor };
}

export async function preparedIn(executor: Executor, request = sampleRequest()) {
  const environment = await executor.prepare(request, new Sink(), never);
  onTestFinished(() => environment.destroy(never));
  return environment;
}
