import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import type { LocalJob } from "../../coordinator/jobs/job.ts";

/** Dotenv reports as GitLab reads them: no quotes, no comments, no blank lines. */

const MOST_BYTES = 5 * 1024;
const MOST_VARIABLES = 20;

const unzipped = promisify(gunzip);

/** The variables that the dotenv reports among a job's uploads have, or why GitLab would refuse one of them. */
export async function reportedBy(
  artifacts: readonly Pick<LocalJob["artifacts"][number], "type" | "path">[],
): Promise<{ readonly variables: ReadonlyMap<string, string> } | { readonly problem: string }> {
  const variables = new Map<string, string>();
  for (const { type, path } of artifacts) {
    if (type !== "dotenv") continue;
    // A job may upload a few bytes that unpack to more than there is memory.
    const content = await unzipped(await readFile(path), { maxOutputLength: MOST_BYTES }).catch(() => undefined);
    if (content === undefined) return { problem: `it is no gzip, or not smaller than ${MOST_BYTES} bytes` };
    const found = readDotenv(content.toString("utf8"));
    if (typeof found === "string") return { problem: found };
    for (const [key, value] of found) variables.set(key, value);
  }
  return { variables };
}

/** @returns a text: why GitLab would refuse it */
export function readDotenv(text: string): ReadonlyMap<string, string> | string {
  if (Buffer.byteLength(text) >= MOST_BYTES) return `it is not smaller than ${MOST_BYTES} bytes`;
  const found = new Map<string, string>();
  const lines = text.replace(/^\uFEFF/, "").split("\n");
  if (lines.at(-1) === "") lines.pop();
  for (const [index, line] of lines.entries()) {
    const split = line.indexOf("=");
    const key = line.slice(0, Math.max(0, split)).trim();
    if (split < 0 || !/^[A-Za-z0-9_]+$/.test(key)) return `line ${index + 1} is not NAME=value`;
    found.set(key, line.slice(split + 1).trim());
  }
  return found.size > MOST_VARIABLES ? `it has ${found.size} variables, and ${MOST_VARIABLES} is the limit` : found;
}
