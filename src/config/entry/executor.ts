import type { ExecutorCatalog, ExecutorDefinition } from "../../executor/executor.ts";
import { keyName, type Part, readPart, subTable } from "../check/check.ts";
import { nearest } from "../check/keys.ts";
import type { RunnerSettings } from "../check/schema.ts";
import { childOf, nodeAt } from "../file/layout-node.ts";
import { isTable } from "../file/toml.ts";
import { deepFreeze } from "../freeze.ts";

export type Report = (key: string, text: string) => void;

/** `undefined` after a problem. */
export async function findExecutor(
  name: string,
  catalog: ExecutorCatalog,
  problem: Report,
): Promise<ExecutorDefinition | undefined> {
  if (catalog.names.includes(name)) return catalog.load(name);
  const known = catalog.names.map((each) => `"${each}"`).join(", ");
  const meant = nearest(name, catalog.names);
  const what = catalog.absent.names.includes(name)
    ? `the executor "${name}" is not available in this version`
    : `there is no executor ${JSON.stringify(name.slice(0, 60))}`;
  problem("executor", `${what}. Use one of ${known}${meant === undefined ? "" : `. Did you mean "${meant}"?`}`);
  return undefined;
}

/** The executor's own tables by its own schemas; `null` after a problem. */
export function readTables(
  entry: Part,
  definition: ExecutorDefinition,
  executorAt: number,
): Readonly<Record<string, unknown>> | null {
  const tables: Record<string, unknown> = {};
  let sound = true;
  for (const { name, required, schema } of definition.tables) {
    const found = subTable(entry.data, entry.node, name);
    const key = keyName(entry, [name]);
    if (found === null) {
      tables[name] = undefined;
      if (required) {
        sound = false;
        const where = `the table [runners.${name}]`;
        const text = `executor "${definition.name}" needs ${where}. Add it to this entry`;
        entry.findings.problem(executorAt, key, text, { executor: definition.name, table: name });
      }
    } else if (!isTable(found.data)) {
      sound = false;
      entry.findings.problem(found.node.at, key, `expected a table: write [runners.${name}] above its keys`);
    } else {
      const part: Part = { ...entry, data: found.data, node: found.node, table: `runners.${name}`, skip: new Set() };
      tables[name] = readPart(schema, part);
      if (tables[name] === undefined) sound = false;
    }
  }
  const complaint = sound ? (definition.check?.(tables) ?? null) : null;
  if (complaint !== null) entry.findings.problem(executorAt, keyName(entry, ["executor"]), complaint);
  deepFreeze(tables);
  return sound && complaint === null ? tables : null;
}

/** The programs that the entry's tables name, each at its own line. */
export async function lookForPrograms(
  entry: Part,
  definition: ExecutorDefinition,
  tables: Readonly<Record<string, unknown>>,
  findProgram: ((program: string) => Promise<string | null>) | undefined,
): Promise<void> {
  if (findProgram === undefined) return;
  for (const { table, key, program } of definition.programs?.(tables) ?? []) {
    const complaint = await findProgram(program);
    if (complaint === null) continue;
    const path = key === undefined ? ["executor"] : [table, key];
    const found = key === undefined ? null : subTable(entry.data, entry.node, table);
    const node = found?.node.kind === "table" && key !== undefined ? childOf(found.node, key) : undefined;
    entry.findings.problem((node ?? found?.node ?? nodeAt(entry.node, path)).at, keyName(entry, path), complaint);
  }
}

export function checkShell(
  settings: RunnerSettings,
  definition: ExecutorDefinition | undefined,
  problem: Report,
): void {
  if (settings.shell === undefined || definition === undefined || definition.shells.includes(settings.shell)) return;
  const names = definition.shells.map((name) => `"${name}"`).join(", ");
  problem("shell", `executor "${definition.name}" cannot run "${settings.shell}". Use one of ${names}`);
}
