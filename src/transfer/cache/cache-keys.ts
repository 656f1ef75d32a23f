import { createHash } from "node:crypto";
import type { Trust } from "../../job/job.ts";
import type { CachePlace } from "./cache-store.ts";

/** Names of caches: what a job writes → what is safe as part of a path and of an object's name. */

const LONGEST_BYTES = 500;

/**
 * A key without anything that could lead out of its project's place: no empty, `.` or `..` segments, no backslashes, no
 * control characters, no blanks at its end. `%2F` and `%2E`, which servers decode, count as what they stand for. A cleaned
 * key cleans to itself.
 * @returns `null` where nothing is left
 */
export function cleanKey(written: string): string | null {
  let key = written.toWellFormed();
  for (let before = ""; before !== key; ) {
    before = key;
    key = cleanOnce(key);
  }
  if (key === "") return null;
  if (Buffer.byteLength(key) <= LONGEST_BYTES) return key;
  const digest = createHash("sha256").update(key).digest("hex");
  return `${cleanOnce([...key].slice(0, 100).join(""))}-${digest}`;
}

function cleanOnce(key: string): string {
  const segments: string[] = [];
  const plain = key
    .replace(/%2f/gi, "/")
    .replace(/%2e/gi, ".")
    .replaceAll("\\", "/")
    .replace(/[\x00-\x1f\x7f]/g, "_");
  for (const segment of plain.split("/")) {
    if (segment === "..") segments.pop();
    else if (segment !== "" && segment !== ".") segments.push(segment);
  }
  while (segments.length > 0) {
    const last = segments.pop()?.trimEnd() ?? "";
    if (last === "") continue;
    segments.push(last);
    break;
  }
  return segments.join("/");
}

/** Where a cache is kept that its job knows by this key. GitLab Runner's hashed keys are found by it, too. */
export function placeOf(
  { projectPath, projectId, hashed }: Pick<CachePlace, "projectPath" | "projectId"> & { readonly hashed?: true },
  key: string,
): CachePlace {
  if (hashed !== true) return { projectPath, projectId, key };
  const hash = createHash("sha256").update(key).digest("hex");
  return { projectPath, projectId, key: `${hash.slice(0, 2)}/${hash}`, shownKey: key };
}

export interface KeyRequest {
  /** The job's key, with variables expanded; empty: the default. */
  readonly key: string;
  /** The key as the job has written it. */
  readonly written: string;
  readonly jobName: string;
  readonly ref: string;
  readonly trust: Trust;
  /** Expanded; tried in order when there is no cache of `key`. */
  readonly fallbackKeys: readonly string[];
  /** `CACHE_FALLBACK_KEY`; the last one that is tried. */
  readonly commonFallbackKey: string | undefined;
  /** A hash is what becomes part of a name: keys stay as the job has them. */
  readonly hashed?: boolean;
}

export interface CacheKeys {
  readonly key: string;
  readonly fallbacks: readonly string[];
  /** One sentence each. */
  readonly warnings: readonly string[];
}

/**
 * The keys of one cache. A job always gets some: where nothing is left of its own it is `<job name>/<ref>`. Jobs of another
 * trust have other keys, whatever they write.
 */
export function cacheKeys(request: KeyRequest): CacheKeys {
  const { key: wanted, written, jobName, ref, trust, commonFallbackKey } = request;
  const cleaned = request.hashed === true ? plainKey : cleanKey;
  const warnings: string[] = [];
  const own = cleaned(wanted);
  const plain = own ?? cleaned(`${jobName}/${ref}`) ?? "default";
  if (own === null && written.trim() !== "") {
    warnings.push(`Nothing is left of the cache key ${quoteKey(written)}; ${quoteKey(plain)} is used.`);
  } else if (own !== null && own !== wanted) {
    warnings.push(`The cache key ${quoteKey(wanted)} is used as ${quoteKey(own)}.`);
  }
  const key = keyApart(plain, trust);
  const fallbacks: string[] = [];
  const add = (text: string): void => {
    const clean = cleaned(text);
    if (clean === null) {
      warnings.push(`The fallback key ${quoteKey(text)} is no usable key; it is left out.`);
      return;
    }
    const apart = keyApart(clean, trust);
    if (apart !== key && !fallbacks.includes(apart)) fallbacks.push(apart);
  };
  for (const fallback of request.fallbackKeys) if (fallback.trim() !== "") add(fallback);
  if (isOfProtected(cleanKey(commonFallbackKey ?? "") ?? "")) {
    // Only jobs of protected refs may see those caches; they get them under a key that the coordinator makes.
    warnings.push(`CACHE_FALLBACK_KEY must not end in "-protected"; it is not used.`);
  } else if (commonFallbackKey !== undefined && commonFallbackKey.trim() !== "") add(commonFallbackKey);
  return { key, fallbacks, warnings };
}

function plainKey(written: string): string | null {
  return written === "" ? null : written.toWellFormed();
}

/**
 * GitLab itself lets the keys of protected refs end in `-protected` and others in `-non_protected`, unless a project has
 * that switched off; what it has not done is done here. A fork has all of its own.
 */
function keyApart(clean: string, { level, source }: Trust): string {
  switch (level) {
    case "fork":
      return `${clean}-fork-${source}`;
    case "protected":
      return isOfProtected(clean) ? clean : `${clean}-protected`;
    case "project":
      return isOfProtected(clean) || isOfFork(clean) || isHashed(clean) ? `${clean}-non_protected` : clean;
  }
}

/** The comparison also covers file systems that ignore case and the dots at the end of a name. */
function isOfProtected(clean: string): boolean {
  return /-protected[. ]*$/i.test(clean);
}

function isOfFork(clean: string): boolean {
  return /-fork-[0-9a-f]{16}[. ]*$/i.test(clean);
}

/** Where a hashed key is kept, of whatever trust it is: none that a job writes leads there. */
function isHashed(clean: string): boolean {
  return /^([0-9a-f]{2})\/\1[0-9a-f]{62}[. ]*$/i.test(clean);
}

function quoteKey(key: string): string {
  return JSON.stringify(key.length > 100 ? `${key.slice(0, 100)}…` : key);
}
