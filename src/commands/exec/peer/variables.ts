import { readFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { CommandError, describeError } from "../../../errors.ts";
import { readRemote } from "../../../local/gitlab/around/facts.ts";
import type { ProjectVariable } from "../../../local/gitlab/run/project-variables.ts";
import type { Git } from "../../../local/sources/git.ts";
import { fileInside } from "../../../local/sources/inside.ts";
import type { WorkingTree } from "../../../local/sources/working-tree.ts";
import { readEnvText } from "../env-file.ts";

/** The files in which people of gitlab-ci-local keep variables. */

const scalar = z.union([z.string(), z.number(), z.boolean()]).transform(String);
const entry = z.union([
  scalar,
  z.object({ type: z.enum(["file", "variable"]).optional(), values: z.record(z.string(), scalar) }),
]);
const table = z.record(z.string(), entry);
type VariableTable = z.infer<typeof table>;
const homeSchema = z.object({
  global: table.nullish(),
  group: z.record(z.string(), table.nullable()).nullish(),
  project: z.record(z.string(), table.nullable()).nullish(),
});

export interface PeerPlaces {
  /** Directory with `variables.yml`. */
  readonly home: string;
  /** `--variables-file`; `undefined`: the usual one. */
  readonly variablesFile: string | undefined;
}

/**
 * Variables of the person and of the project, the weakest first.
 * @throws {CommandError} a file that is none of these
 */
export async function peerVariables(
  tree: WorkingTree,
  git: Git,
  { home, variablesFile }: PeerPlaces,
): Promise<{ readonly variables: readonly ProjectVariable[]; readonly notes: readonly string[] }> {
  const variables: ProjectVariable[] = [];
  const notes: string[] = [];
  const homeFile = join(home, "variables.yml");
  const ofPerson = await textIn(homeFile);
  if (ofPerson !== undefined) {
    const { global, group, project } = read(homeFile, homeSchema, ofPerson);
    const remote =
      tree.repository === null ? null : readRemote((await git.attempt(["remote", "get-url", "origin"])).stdout.trim());
    const address = remote === null ? "" : `${remote.host}/${remote.path}`;
    const fits = (key: string): boolean => {
      const plain = key.replace(/^([^/:]+):(?:project\/)?/, "$1/").replace(/\.git$/, "");
      return address !== "" && (plain.endsWith("/") ? address.startsWith(plain) : address === plain);
    };
    for (const part of [global ?? {}, ...valuesOf(group, fits), ...valuesOf(project, fits)])
      variables.push(...(await variablesOf(part, home, async (path) => await textIn(resolve(tree.dir, path)))));
  }
  const name = variablesFile ?? ".gitlab-ci-local-variables.yml";
  const path = resolve(tree.dir, name);
  const text = await textIn(fileInside(tree.dir, name) ?? (variablesFile === undefined ? "" : path));
  if (text === undefined) {
    if (variablesFile !== undefined) throw new CommandError(`--variables-file ${variablesFile} is not there`);
    return { variables, notes };
  }
  // A file that git has comes from the project's author, who must not reach files of the person.
  const isOfAuthor =
    tree.repository !== null && (await git.attempt(["ls-files", "--error-unmatch", "--", path])).code === 0;
  const content = async (file: string): Promise<string | undefined> => {
    if (!isOfAuthor) return await textIn(resolve(tree.dir, file));
    notes.push(
      `${name}: git has this file, so ${file} stays a text: what is yours is read only out of files of your own`,
    );
    return undefined;
  };
  variables.push(...(await variablesOf(tableIn(text, name), home, content)));
  return { variables, notes };
}

function valuesOf(
  from: Readonly<Record<string, VariableTable | null>> | null | undefined,
  fits: (name: string) => boolean,
): VariableTable[] {
  return Object.entries(from ?? {}).flatMap(([name, value]) => (value !== null && fits(name) ? [value] : []));
}

/** YAML, or `NAME=value` lines. */
function tableIn(text: string, name: string): VariableTable {
  if (/^\s*(?:#.*\n|\s)*[A-Za-z_]\w*=/.test(text))
    return Object.fromEntries(readEnvText(text, name).map(({ key, value }) => [key, value]));
  return read(name, table, text);
}

function read<T>(file: string, schema: z.ZodType<T>, text: string): T {
  let data: unknown;
  try {
    data = parse(text) ?? {};
  } catch (cause) {
    throw new CommandError(`${file} is no YAML: ${describeError(cause)}`, { cause });
  }
  const result = schema.safeParse(data);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  // The value is not printed, as it may be a secret.
  throw new CommandError(
    `${file}: ${issue?.path.join(".") ?? ""} is no variable: NAME: value, or NAME: {values: {"*": value}}`,
  );
}

async function variablesOf(
  from: VariableTable,
  home: string,
  contentOf: (path: string) => Promise<string | undefined>,
): Promise<ProjectVariable[]> {
  const found: ProjectVariable[] = [];
  for (const [key, value] of Object.entries(from)) {
    const { type, values } = typeof value === "object" ? value : { type: undefined, values: { "*": value } };
    // Later ones win, and the longest scope is to win.
    const scopes = Object.entries(values).toSorted(([a], [b]) => a.length - b.length);
    for (const [scope, text] of scopes) {
      const path = /^[/~]/.test(text) && type !== "variable" ? text.replace(/^~/, dirname(home)) : undefined;
      const content = path === undefined ? undefined : await contentOf(path);
      const file = content !== undefined || type === "file";
      const shown = content ?? text;
      found.push({
        key,
        value: shown,
        ...(file ? { file } : {}),
        masked: !file && isMaskable(shown),
        ...(scope === "*" ? {} : { scope }),
      });
    }
  }
  return found;
}

/** What GitLab would mask. */
function isMaskable(text: string): boolean {
  return text.length >= 8 && !/\s/.test(text);
}

async function textIn(path: string): Promise<string | undefined> {
  return await readFile(path, "utf8").catch(() => undefined);
}
