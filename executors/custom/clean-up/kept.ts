import { createHash } from "node:crypto";
import { closeSync, openSync } from "node:fs";
import { readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";

/**
 * What is kept on disk of a job until its `cleanup_exec` is done: its place, so that no other job gets its
 * `CI_CONCURRENT_PROJECT_ID`, and what the clean-up needs, also after a crash. Secrets of the job are in it (0600).
 */
const keptSchema = z.object({
  jobKey: z.string(),
  dir: z.string(),
  payload: z.string(),
  environment: z.record(z.string(), z.string()),
  /** Values that no log may show. */
  secrets: z.array(z.string()),
  cleanup: z.object({ path: z.string(), args: z.array(z.string()), timeoutMs: z.number() }).nullable(),
  /**
   * Files that a last script removes before `cleanup_exec`, and the `run_exec` that runs it; `null`: nothing was made.
   */
  files: z
    .object({
      path: z.string(),
      args: z.array(z.string()),
      shell: z.enum(["bash", "sh", "cmd", "powershell", "pwsh"]),
      paths: z.array(z.string()),
    })
    .nullable(),
  gracefulMs: z.number(),
  forceMs: z.number(),
});

export type KeptJob = z.infer<typeof keptSchema>;

/** A place that was taken, by its file. */
export interface Place {
  readonly slot: number;
  readonly file: string;
}

/**
 * Files of this process's jobs. Only this runner uses the directory, so all others are those of dead ones: also an empty one, whose
 * process ended before it wrote a word.
 */
const taken = new Set<string>();

/** Prefix of the files' names. */
export const PREFIX = "custom-job-";

/** The lowest number that no job of this runner and project has. */
export function takePlace(keepDir: string, runnerId: string, projectId: string): Place {
  const project = createHash("sha256").update(projectId).digest("hex").slice(0, 16);
  for (let slot = 0; ; slot++) {
    const file = join(keepDir, `${PREFIX}${runnerId}-${project}-${slot}`);
    try {
      // In one turn: whoever looks for files of the dead sees either none or one that is taken.
      closeSync(openSync(file, "wx", 0o600));
      taken.add(file);
      return { slot, file };
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
    }
  }
}

/** Replaces the file in one step, so that a crash leaves either the old or the new content. */
export async function keep(file: string, job: KeptJob): Promise<void> {
  const fresh = `${file}.new`;
  await writeFile(fresh, JSON.stringify(job), { mode: 0o600, flush: true });
  await rename(fresh, file);
}

/** `null`: there is no such file (any more), or nothing was kept yet. */
export async function readKept(file: string): Promise<KeptJob | "unreadable" | null> {
  try {
    const text = await readFile(file, "utf8");
    return text === "" ? null : keptSchema.parse(JSON.parse(text));
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "ENOENT" ? null : "unreadable";
  }
}

export async function letGo(file: string): Promise<void> {
  taken.delete(file);
  await Promise.all([file, `${file}.new`].map((path) => rm(path, { force: true })));
}

/** Files of processes that have ended, but for those that cannot be understood. */
export async function* filesOfTheDead(keepDir: string): AsyncGenerator<string, void> {
  const names = await readdir(keepDir).catch(() => []);
  for (const name of names) {
    if (!name.startsWith(PREFIX) || name.endsWith(".new")) continue;
    const file = join(keepDir, name);
    const kept = await readKept(file);
    // The place may have been cleaned up and taken again meanwhile.
    if (kept !== "unreadable" && !taken.has(file)) yield file;
  }
}
