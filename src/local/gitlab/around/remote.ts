import { createHash } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describeError } from "../../../errors.ts";
import { pause } from "../../../time.ts";
import type { Found } from "../compose/include-sources.ts";

/** A text, or why there is none. `passing`: it may be there a little later. */
export type Fetched = { readonly found: string } | { readonly problem: string; readonly passing?: boolean };

export interface RemoteOptions {
  /** Rejects with `signal.reason` only. */
  readonly fetchText: (url: string, mostBytes: number, signal: AbortSignal) => Promise<Fetched>;
  /** How long to wait before each further try. Default: as GitLab does. */
  readonly pausesMs?: readonly number[];
  /** Where files are kept for `offline`. */
  readonly cacheDir: string;
  readonly offline: boolean;
  /** Limit for all files of one run together, as GitLab has it. */
  readonly timeoutMs: number;
}

/** GitLab's limit for one YAML text. */
const MOST_BYTES = 2 * 1024 * 1024;
const PAUSES_MS = [1000, 2000];

/** Files of the web, each fetched once a run; offline they are what they were the last time. */
export function createRemoteFiles({
  fetchText,
  cacheDir,
  offline,
  timeoutMs,
  pausesMs = PAUSES_MS,
}: RemoteOptions): (url: string) => Promise<Found<string>> {
  const known = new Map<string, Promise<Found<string>>>();
  // The limit begins with the first file.
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
      let answer = await fetchText(url, MOST_BYTES, limit);
      for (const pauseMs of pausesMs) {
        if (!("problem" in answer) || answer.passing !== true) break;
        await pause(pauseMs, limit);
        answer = await fetchText(url, MOST_BYTES, limit);
      }
      if ("problem" in answer) return { problem: answer.problem };
      await mkdir(cacheDir, { recursive: true, mode: 0o700 });
      const beside = `${kept(url)}.${process.pid}`;
      await writeFile(beside, answer.found, { mode: 0o600 });
      await rename(beside, kept(url));
      return answer;
    } catch (error) {
      if (limit.aborted) return { problem: `cannot be fetched: there was no answer within ${timeoutMs / 1000} s` };
      return { problem: `cannot be kept: ${describeError(error)}` };
    }
  };
  return async (url) => {
    const before = known.get(url) ?? fetched(url);
    known.set(url, before);
    return await before;
  };
}

/** A template of GitLab's own, from its source. */
export function templateUrl(name: string): string {
  return `https://gitlab.com/gitlab-org/gitlab/-/raw/master/lib/gitlab/ci/templates/${name}`;
}
