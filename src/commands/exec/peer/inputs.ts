import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { CommandError, describeError } from "../../../errors.ts";
import type { LoadOptions } from "../../../local/gitlab/load.ts";
import { fileInside } from "../../../local/sources/inside.ts";
import type { WorkingTree } from "../../../local/sources/working-tree.ts";

const USUAL = ".gitlab-ci-local-inputs.yml";
const tableSchema = z.record(z.string(), z.unknown());

/**
 * Values that people of gitlab-ci-local keep for inputs: a table of them, or one with `_global` beside tables for components,
 * which get theirs where they are included.
 * @param given `--inputs-file`; `undefined`: the usual one, if it is there
 * @throws {CommandError} a file that is none of these
 */
export async function peerInputs({ dir }: WorkingTree, given: string | undefined): Promise<LoadOptions["offered"]> {
  const path = given === undefined ? fileInside(dir, USUAL) : resolve(dir, given);
  const text = path === undefined ? undefined : await readFile(path, "utf8").catch(() => undefined);
  if (text === undefined) {
    if (given !== undefined) throw new CommandError(`--inputs-file ${given} is not there`);
    return undefined;
  }
  const file = given ?? USUAL;
  const table = tableSchema.safeParse(read(text, file) ?? {});
  const own = table.success ? tableSchema.safeParse(table.data._global ?? table.data) : table;
  if (!own.success) throw new CommandError(`${file} is no table of inputs: NAME: value is expected`);
  return { file, values: own.data };
}

function read(text: string, file: string): unknown {
  try {
    return parse(text);
  } catch (cause) {
    throw new CommandError(`${file} is no YAML: ${describeError(cause)}`, { cause });
  }
}
