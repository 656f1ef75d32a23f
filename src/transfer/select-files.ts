import { ScriptFailure } from "../errors.ts";
import { type FileList, type FileSelection, fileNameText, type Workspace } from "../workspace.ts";

/** Most patterns in one list of paths, or of exclusions. */
export const MOST_PATTERNS = 1000;

/**
 * The files that a job's patterns name. A pattern with a NUL can name none: it is left out with a warning.
 * @throws {ScriptFailure} they are too many
 */
export async function selectFiles(
  files: Pick<Workspace, "list">,
  { globs, exclude, untracked }: FileSelection,
  signal: AbortSignal,
): Promise<FileList> {
  if (Math.max(globs.length, exclude.length) > MOST_PATTERNS) {
    throw new ScriptFailure(`there are more than ${MOST_PATTERNS} patterns for files in one list`);
  }
  const possible = (pattern: string): boolean => !pattern.includes("\0");
  const odd = [...globs, ...exclude].filter((pattern) => !possible(pattern));
  const list = await files.list(
    { globs: globs.filter(possible), exclude: exclude.filter(possible), untracked },
    signal,
  );
  const warnings = odd.map((pattern) => `${fileNameText(pattern)} names no file: names hold no NUL`);
  return { ...list, warnings: [...warnings, ...list.warnings] };
}
