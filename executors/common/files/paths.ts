import { type FileName, fileName } from "../../../src/workspace.ts";

/** A path of the runner's own (text) as bytes in a string, like those of a job's files. */
export function pathOf(text: string): FileName {
  return fileName(Buffer.from(text));
}

export function below(directory: string, name: string): FileName {
  if (directory === "") return fileName(name);
  return fileName(directory.endsWith("/") ? `${directory}${name}` : `${directory}/${name}`);
}

export function parentOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "" : path.slice(0, slash);
}

export function compareBytes(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
