import { createHash } from "node:crypto";

/** What stands for a runner's token in public places: 8 hex digits of its SHA-256. */
export function runnerId(token: string): string {
  return digest(token).slice(0, 8);
}

/** What stands for an entry: what was written down when its token was exchanged for another, else what stands for the token. */
export function entryId(knownAs: unknown, token: string): string {
  return typeof knownAs === "string" && /^[0-9a-f]{8}$/.test(knownAs) ? knownAs : runnerId(token);
}

/** What a runner is called: its id where the entry has no name. */
export function runnerName(name: string, id: string): string {
  return name === "" ? id : name;
}

/** What says which kind a token is. */
const KIND = /^glrt-(?:t[123]_)?|^t[123]_|^glrtr-|^glcbt-|^GR[0-9A-Fa-f]{7}/;
const SHORT = 9;

/**
 * What GitLab Runner shows of a token: nine characters behind its kind. Of one that this would be half of, or more, nothing is
 * shown: `""`.
 */
export function shortToken(token: string): string {
  const bare = token.replace(KIND, "");
  return bare.length < 2 * SHORT ? "" : bare.slice(0, SHORT);
}

/** What a token begins with, without what says which kind it is, as the names of a runner's machines have it. */
export function shortTokens(token: string): string[] {
  const bare = token.replace(KIND, "");
  // The Go runner took eight characters of a token without a kind, newer ones of GitLab's take nine.
  const lengths = bare === token ? [8, SHORT] : [SHORT, 8];
  return lengths.map((length) =>
    bare
      .slice(0, length)
      .toLowerCase()
      .replaceAll(/[^a-z0-9.-]/g, "-"),
  );
}

/** SHA-256, hex. */
export function digest(text: string | Buffer): string {
  return createHash("sha256").update(text).digest("hex");
}
