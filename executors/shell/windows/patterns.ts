import type { Workspace } from "../../../src/workspace.ts";

/**
 * A pattern as people write it on Windows, as patterns are read everywhere: with slashes, and relative where it points into
 * `root`. A backslash always separates there, as for the Go runner: no name holds one, so there is nothing to be quoted.
 */
export function windowsPattern(pattern: string, root: string): string {
  const slashed = pattern.replaceAll("\\", "/");
  const top = root.replaceAll("\\", "/");
  if (slashed.toLowerCase() === top.toLowerCase()) return ".";
  // Names know no case.
  if (slashed.toLowerCase().startsWith(`${top.toLowerCase()}/`)) return slashed.slice(top.length + 1);
  // `D:/x` is no directory of the project.
  return /^[a-z]:/i.test(slashed) ? `/${slashed}` : slashed;
}

/** Files of a place on Windows: what is looked for may be written with backslashes. */
export function withWindowsPatterns(workspace: Workspace): Workspace {
  const { root } = workspace;
  return {
    ...workspace,
    list: async ({ globs, exclude, untracked }, signal) => {
      const read = (patterns: readonly string[]): string[] => patterns.map((one) => windowsPattern(one, root));
      return await workspace.list({ globs: read(globs), exclude: read(exclude), untracked }, signal);
    },
  };
}
