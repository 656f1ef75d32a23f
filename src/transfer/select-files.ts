import { type FileList, type FileSelection, fileNameText, type Workspace } from "../workspace.ts";

/** The files that a job's patterns name. One that holds a NUL can name none: it is left out with a warning. */
export async function selectFiles(
  files: Pick<Workspace, "list">,
  { globs, exclude, untracked }: FileSelection,
  signal: AbortSignal,
): Promise<FileList> {
  const possible = (pattern: string): boolean => !pattern.includes("\0");
  const odd = [...globs, ...exclude].filter((pattern) => !possible(pattern));
  const list = await files.list(
    { globs: globs.filter(possible), exclude: exclude.filter(possible), untracked },
    signal,
  );
  const warnings = odd.map((pattern) => `${fileNameText(pattern)} names no file: names hold no NUL`);
  return { ...list, warnings: [...warnings, ...list.warnings] };
}
