import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { StoredJob } from "../../src/journal/contract.ts";
import { openJournal } from "../../src/journal/records/journal.ts";
import { openStateDir } from "../../src/journal/state/state-dir.ts";
import type { Log } from "../../src/log.ts";
import { never } from "../../src/time.ts";

/** A directory that is removed after the test. */
export async function temporaryDirectory(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-journal-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** Keeps what was logged as `level message`. */
export function recordingLog(): Log & { readonly lines: string[] } {
  const lines: string[] = [];
  const log: Log & { readonly lines: string[] } = {
    lines,
    debug: () => undefined,
    info: (message) => void lines.push(`info ${message}`),
    warn: (message) => void lines.push(`warn ${message}`),
    error: (message) => void lines.push(`error ${message}`),
    child: () => log,
  };
  return log;
}

/** A state directory with its journal, as one process has it; `close` does what the process's end does. */
export async function openState(path: string, log: Log = recordingLog()) {
  const stateDir = await openStateDir({ path, log }, never);
  const journal = await openJournal({ stateDir, log });
  let open = true;
  const close = async (): Promise<void> => {
    if (!open) return;
    open = false;
    await journal.close();
    await stateDir.close();
  };
  onTestFinished(close);
  return { stateDir, journal, close };
}

let count = 0;

export function storedJob(changes: Partial<StoredJob> = {}): StoredJob {
  count++;
  return {
    key: `7e3b05c2-${count}-abc`,
    id: String(count),
    token: `job-token-${count}`,
    dialect: "alloy",
    title: "project / job",
    runner: {
      id: "7e3b05c2",
      name: "runner",
      token: "runner-token",
      url: "http://127.0.0.1:1/",
      tlsCaFile: null,
      tlsCertFile: null,
      tlsKeyFile: null,
      certsDir: "/nonexistent",
    },
    executor: "shell",
    knownReasons: [],
    acceptedAt: new Date(1_700_000_000_000 + count).toISOString(),
    boot: "",
    ...changes,
  };
}
