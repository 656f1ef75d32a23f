import { chmodSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import shell from "../../executors/shell/index.ts";
import type { Executor, ExecutorDeps } from "../../src/executor.ts";
import type { Log } from "../../src/log.ts";
import { never } from "../../src/time.ts";
import { type OpenOptions, Sink, sampleRequest } from "../contract/executor.ts";

const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, child: () => log };

export function newDirectory(): string {
  const dir = mkdtempSync(join(tmpdir(), "alloy-executor-"));
  chmodSync(dir, 0o755);
  return dir;
}

export function openIn(dir: string, options: Partial<ExecutorDeps> & OpenOptions = {}): Executor {
  const scratchDir = join(dir, "scratch");
  mkdirSync(scratchDir, { recursive: true, mode: 0o700 });
  return shell.create(
    {},
    {
      log,
      buildsDir: undefined,
      cacheDir: undefined,
      shell: undefined,
      workingDirectory: dir,
      user: undefined,
      scratchDir,
      inheritEnvironment: [],
      killLeftovers: true,
      killGraceMs: 1000,
      ownProgram: [process.execPath, join(import.meta.dirname, "../../src/main.ts")],
      ...options,
    },
  );
}

/** A directory and an executor in it, both gone when the test has ended. */
export function opened(options: Partial<ExecutorDeps> & OpenOptions = {}): { dir: string; executor: Executor } {
  const dir = newDirectory();
  const executor = openIn(dir, options);
  onTestFinished(async () => {
    await executor.close();
    rmSync(dir, { recursive: true, force: true });
  });
  return { dir, executor };
}

export async function preparedIn(executor: Executor, request = sampleRequest()) {
  const environment = await executor.prepare(request, new Sink(), never);
  onTestFinished(() => environment.destroy(never));
  return environment;
}
