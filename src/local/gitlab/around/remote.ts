import { createHash } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Found } from "../compose/include.ts";

export interface RemoteOptions {
  /** Where files are kept for `offline`. */
  readonly cacheDir: string;
  readonly offline: boolean;
  /** All files of one run together, as GitLab has it. */
  readonly timeoutMs: number;
}

/** One YAML text at GitLab. */
const MOST_BYTES = 2 * 1024 * 1024;

/** Files of the web, each fetched once a run; offline they are what they were the last time. */
export function createRemoteFiles({
  cacheDir,
  offline,
  timeoutMs,
}: RemoteOptions): (url: string) => Promise<Found<string>> {
  const known = new Map<string, Promise<Found<string>>>();
  // Begins with the first of them.
  let limit: AbortSignal | undefined;
  const kept = (url: string): string => join(cacheDir, createHash("sha256").update(url).digest("hex"));
  const fetched = async (url: string): Promise<Found<string>> => {
    if (offline) {
      const text = await readFile(kept(url), "utf8").catch(() => undefined);
      return text === undefined
        ? { problem: "was not fetched before, and --offline says not to fetch it: run once without" }
        : { found: text };
    }
    limit ??= AbortSignal.timeout(timeoutMs);
    try {
      const response = await fetch(url, { signal: limit });
      if (!response.ok) return { problem: `cannot be fetched: the server answers ${response.status}` };
      const text = await bounded(response);
      if (text === undefined) return { problem: `is larger than ${MOST_BYTES} bytes` };
      await mkdir(cacheDir, { recursive: true, mode: 0o700 });
      const beside = `${kept(url)}.${process.pid}`;
      await writeFile(beside, text, { mode: 0o600 });
      await rename(beside, kept(url));
      return { found: text };
    } catch (error) {
      if (limit.aborted) return { problem: `cannot be fetched: there was no answer within ${timeoutMs / 1000} s` };
      return { problem: `cannot be fetched: ${error instanceof Error ? error.message : String(error)}` };
    }
  };
  return async (url) => {
    const before = known.get(url) ?? fetched(url);
    known.set(url, before);
    return await before;
  };
}

async function bounded(response: Response): Promise<string | undefined> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of response.body ?? []) {
    size += piece.length;
    if (size > MOST_BYTES) return undefined;
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString("utf8");
}

/** A template of GitLab's own, from its source. */
export function templateUrl(name: string): string {
  return `https://gitlab.com/gitlab-org/gitlab/-/raw/master/lib/gitlab/ci/templates/${name}`;
}
