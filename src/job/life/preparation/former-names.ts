import { createHash } from "node:crypto";
import type { RunnerConfig } from "../../../config/config.ts";

/**
 * What other runners of the family call whatever they keep for one slot of a project: GitLab Runner since it has system ids, the
 * one before, and the Go runner, which took eight characters of a token. Such names say no more of the token than theirs do.
 */
export function formerNames(
  { token, shortToken }: Pick<RunnerConfig, "token" | "shortToken">,
  {
    projectId,
    slot,
    systemId,
  }: { readonly projectId: string; readonly slot: number; readonly systemId?: string | undefined },
): string[] {
  const named =
    systemId === undefined ? [] : [`runner-${sha256([token, systemId, projectId, slot].join("-")).slice(0, 32)}`];
  const shorts = shortToken === "" ? [] : [shortToken, shortToken.slice(0, 8)];
  const older = shorts.map((short) => `runner-${short}-project-${projectId}-concurrent-${slot}`);
  return [...new Set([...named, ...older, ...older.map((name) => name.toLowerCase())])];
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
