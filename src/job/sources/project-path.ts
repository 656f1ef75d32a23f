import { createHash } from "node:crypto";
import type { Job } from "../job.ts";

const LONGEST_SEGMENT_BYTES = 200;
const LONGEST_PATH_BYTES = 1000;

/**
 * `group/project`, from the address of the repository: relative, clean, safe to join, never empty, the same for each job
 * of a project and another one for each other project. What cannot be a directory name everywhere is replaced, and a hash
 * of the original keeps such names apart. Without a usable address: `project-<id>`.
 */
export function projectPathOf(job: Pick<Job, "id" | "projectId" | "git">): string {
  const project = /^[\w-]{1,100}$/.test(job.projectId) && job.projectId !== "0" ? job.projectId : `job-${job.id}`;
  const fallback = `project-${project.replace(/[^\w-]/g, "_")}`;
  const path = pathOf(job.git.repoUrl.trim());
  if (path === null) return fallback;
  const original = path.replace(/\/+$/, "").replace(/\.git$/i, "");
  const segments = original.split("/").filter((segment) => segment !== "");
  if (segments.length === 0 || segments.some((segment) => /^\.+$/.test(segment))) return fallback;
  const cleaned = segments.map(clean).join("/");
  if (Buffer.byteLength(cleaned) > LONGEST_PATH_BYTES) return fallback;
  if (cleaned === segments.join("/")) return cleaned;
  return `${cleaned}-${createHash("sha256").update(original).digest("hex").slice(0, 8)}`;
}

function pathOf(address: string): string | null {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(address)) {
    if (!URL.canParse(address)) return null;
    // The parser resolves `..` by itself, so look at what was written.
    const [, written = ""] = /^[a-z][a-z0-9+.-]*:\/\/[^/?#]*([^?#]*)/i.exec(address) ?? [];
    if (/(?:^|\/)(?:\.|%2e){1,2}(?:\/|$)/i.test(written)) return null;
    try {
      return decodeURIComponent(written);
    } catch {
      return written;
    }
  }
  if (address.startsWith("/")) return address;
  return /^(?:[\w.-]+@)?[\w.-]+:([^:].*)$/s.exec(address)?.[1] ?? null;
}

/** No blanks, quotes or signs that somebody's Makefile trips over; no dash in front, no dot at the end. */
function clean(segment: string): string {
  const safe = segment
    .replace(/[^\p{L}\p{N}._+@~-]/gu, "_")
    .replace(/^-/, "_")
    .replace(/\.$/, "_");
  if (safe.toLowerCase() === ".git") return "_git";
  let short = [...safe].slice(0, LONGEST_SEGMENT_BYTES).join("");
  while (Buffer.byteLength(short) > LONGEST_SEGMENT_BYTES) short = [...short].slice(0, -1).join("");
  return short;
}
