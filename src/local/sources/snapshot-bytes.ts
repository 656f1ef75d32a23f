import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Git, GitCall } from "./git.ts";

const ATTRIBUTES = ["text", "crlf", "eol", "ident", "working-tree-encoding", "filter"] as const;
type Attributes = Readonly<Record<(typeof ATTRIBUTES)[number], string>>;

/** As git lists it: the path is quoted where it has to be, and goes back to git as it came. */
interface Entry {
  readonly mode: string;
  readonly id: string;
  readonly path: string;
}

/**
 * What was added as a person's settings want it (`core.autocrlf`, `core.eol`) is added once more as it lies there, where jobs
 * would get other bytes: they check out with the line ends of the commit and what its `.gitattributes` say, and nothing else.
 * Contents of filters and other encodings stay git's business, and where attributes say `eol=crlf` all lines end so.
 * @returns whether attributes are among the files
 */
export async function keepBytes(
  dir: string,
  git: Git,
  quiet: readonly string[],
  call: GitCall,
): Promise<{ readonly hasAttributes: boolean }> {
  const options = [...quiet, "-c", "core.quotePath=true"];
  const [listed, configured] = await Promise.all([
    git([...options, "ls-files", "--stage"], call),
    git.attempt([...options, "config", "--get", "core.autocrlf"], call),
  ]);
  const told = { hasAttributes: /(?:\t|\/)\.gitattributes"?$/m.test(listed) };
  const files = listed.split("\n").flatMap((line): Entry[] => {
    const [, mode, id, path] = /^(100\d{3}) ([0-9a-f]+) 0\t(.*)$/.exec(line) ?? [];
    return mode === undefined || id === undefined || path === undefined ? [] : [{ mode, id, path }];
  });
  if (files.length === 0) return told;
  const paths = (entries: readonly Entry[]): string => entries.map(({ path }) => `${path}\n`).join("");
  const setting = configured.stdout.toLowerCase();
  const byDefault = setting !== "" && !["false", "no", "off", "0"].includes(setting);
  const attributes = attributesIn(
    await git([...options, "check-attr", "--stdin", ...ATTRIBUTES], { ...call, input: paths(files) }),
  );
  const doubtful = files.flatMap((file, index) => {
    const its = attributes[index];
    return its !== undefined && mayConvert(its, byDefault) ? [{ file, its }] : [];
  });
  if (doubtful.length === 0) return told;
  const input = paths(doubtful.map(({ file }) => file));
  const hashed = await git([...options, "hash-object", "-w", "--no-filters", "--stdin-paths"], { ...call, input });
  const ids = hashed.split("\n");
  const lines: string[] = [];
  for (const [index, { file, its }] of doubtful.entries()) {
    const id = ids[index];
    if (id === undefined || id === file.id) continue;
    if (its.eol === "crlf" && (await hasOnlyCrlf(dir, file.path))) continue;
    lines.push(`${file.mode} ${id} 0\t${file.path}\n`);
  }
  if (lines.length > 0) await git([...options, "update-index", "--index-info"], { ...call, input: lines.join("") });
  return told;
}

/** `path: attribute: value`, in the order in which was asked; so a path may hold what it likes. */
function attributesIn(answer: string): Attributes[] {
  const values = answer.split("\n").map((line) => line.slice(line.lastIndexOf(": ") + 2));
  return Array.from({ length: Math.floor(values.length / ATTRIBUTES.length) }, (_, index) => {
    const [text = "", crlf = "", eol = "", ident = "", encoding = "", filter = ""] = values.slice(
      index * ATTRIBUTES.length,
    );
    return { text, crlf, eol, ident, "working-tree-encoding": encoding, filter };
  });
}

function mayConvert(attributes: Attributes, byDefault: boolean): boolean {
  const isSaid = (value: string): boolean => value !== "unspecified" && value !== "unset";
  const { text, crlf, eol, ident, filter } = attributes;
  if (isSaid(filter) || isSaid(ident) || isSaid(attributes["working-tree-encoding"])) return false;
  if (text === "unset" || (text === "unspecified" && crlf === "unset")) return false;
  return byDefault || isSaid(text) || isSaid(crlf) || isSaid(eol);
}

/** Such a file comes out of the commit as it went in. A name that git quotes is rare, and is added as it is. */
async function hasOnlyCrlf(dir: string, path: string): Promise<boolean> {
  if (path.startsWith('"')) return false;
  const content = await readFile(join(dir, path)).catch(() => null);
  return content !== null && !/(?:^|[^\r])\n|\r(?!\n)/.test(content.toString("latin1"));
}
