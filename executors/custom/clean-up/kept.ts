import { createHash, randomUUID } from "node:crypto";
import { open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";

/**
 * What is kept on disk of a job until its `cleanup_exec` is done: its place, so that no other job gets its
 * `CI_CONCURRENT_PROJECT_ID`, and what the clean-up needs, also after a crash. Secrets of the job are in it (0600).
 */
const keptSchema = z.object({
  /** The process that the file belongs to. */
  process: z.string(),
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

/** Only this runner uses the directory, so files of other processes are those of dead ones. */
const thisProcess = randomUUID();

/** Prefix of the files' names. */
export const PREFIX = "custom-job-";

/** The lowest number that no job of this runner and project has. */
export async function takePlace(keepDir: string, runnerId: string, projectId: string): Promise<Place> {
  const project = createHash("sha256").update(projectId).digest("hex").slice(0, 16);
  for (let slot = 0; ; slot++) {
    const file = join(keepDir, `${PREFIX}${runnerId}-${project}-${slot}`);
    try {
      await (await open(file, "wx", 0o600)).close();
      return { slot, file };
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
    }
  }
}

/** Replaces the file in one step, so that a crash leaves either the old or the new content. */
export async function keep(file: string, job: Omit<KeptJob, "process">): Promise<void> {
  const fresh = `${file}.new`;
  await writeFile(fresh, JSON.stringify({ ...job, process: thisProcess }), { mode: 0o600, flush: true });
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
  await Promise.all([file, `${file}.new`].map((path) => rm(path, { force: true })));
}

/** Files of processes that have ended, also those that cannot be understood. */
export async function filesOfTheDead(keepDir: string): Promise<string[]> {
  const names = await readdir(keepDir).catch(() => []);
  const found: string[] = [];
  for (const name of names) {
    if (!name.startsWith(PREFIX) || name.endsWith(".new")) continue;
    const kept = await readKept(join(keepDir, name));
    if (kept !== null && kept !== "unreadable" && kept.process !== thisProcess) found.push(join(keepDir, name));
  }
  return found;
}
