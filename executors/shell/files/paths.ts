import { ScriptFailure, SystemFailure } from "../../../src/errors.ts";
import { fileNameText } from "../../../src/workspace.ts";

/** A path for a system call. */
export function bytesOf(path: string): Buffer {
  return Buffer.from(path, "latin1");
}

export function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

/** It is not there (any more). */
export function isMissing(error: unknown): boolean {
  return ["ENOENT", "ENOTDIR"].includes(codeOf(error));
}

/** What the job's own account may not read, the job has made so. `path` is relative to the checkout. */
export function unreadable(path: string, cause: unknown): ScriptFailure | SystemFailure {
  const what = `Cannot read ${path === "" ? "the checkout" : fileNameText(path)}`;
  return codeOf(cause) === "EACCES"
    ? new ScriptFailure(`${what}: the job's account may not (EACCES)`)
    : new SystemFailure(what, { cause });
}

/** `body` for each item, `width` at a time; the first error ends it. */
export async function inParallel<T>(
  items: Iterable<T>,
  width: number,
  body: (item: T) => Promise<void>,
): Promise<void> {
  const iterator = items[Symbol.iterator]();
  let failed = false;
  const work = async (): Promise<void> => {
    for (let next = iterator.next(); !failed && next.done !== true; next = iterator.next()) {
      try {
        await body(next.value);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const results = await Promise.allSettled(Array.from({ length: width }, work));
  const bad = results.find((result) => result.status === "rejected");
  if (bad !== undefined) throw bad.reason;
}
