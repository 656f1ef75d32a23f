import { keyName, type Part } from "./check/check.ts";
import type { BrokenEntry } from "./config.ts";
import { expandVariables } from "./expand.ts";
import { childOf, type LayoutNode } from "./file/layout-node.ts";
import { isTable } from "./file/toml.ts";
import { entryId, runnerName } from "./identity.ts";

/** The `[[runners]]` entries, each with its place. */
export function* entriesOf(around: Pick<Part, "document" | "findings" | "foreign">): Generator<Part> {
  const { document, findings } = around;
  const keys = Object.keys(document.data).filter((each) => each.toLowerCase() === "runners");
  for (const key of keys) {
    const data = document.data[key];
    const node: LayoutNode = childOf(document.layout.root, key) ?? document.layout.root;
    if (key !== keys[0]) {
      findings.problem(
        node.at,
        key,
        `is the same as "${keys[0]}" in another case. Write all headers alike: [[runners]]`,
      );
    } else if (!Array.isArray(data)) {
      findings.problem(
        node.at,
        key,
        "expected a list of tables: write [[runners]], with two brackets, above each entry",
      );
    } else {
      for (const [index, entry] of data.entries()) {
        const item: LayoutNode = (node.kind === "array" ? node.items[index] : undefined) ?? node;
        const part = { ...around, findings: findings.apart(), node: item, table: "runners", skip: new Set<string>() };
        if (!isTable(entry))
          findings.problem(item.at, keyName({ table: "runners", owner: "" }, [index]), "expected a table");
        else yield { ...part, data: entry, owner: ownerOf(entry, index, data.length) };
      }
    }
  }
}

function ownerOf(entry: Readonly<Record<string, unknown>>, index: number, count: number): string {
  const key = Object.keys(entry).find((each) => each.toLowerCase() === "name");
  const name = key === undefined ? undefined : entry[key];
  if (typeof name === "string" && name !== "") return ` of ${JSON.stringify(name.slice(0, 60))}`;
  return count > 1 ? ` of entry ${index + 1}` : "";
}

/** What a broken entry is called. */
export function nameOf(
  { data }: Part,
  env: Readonly<Record<string, string | undefined>>,
): Pick<BrokenEntry, "name" | "id" | "executor"> {
  const text = (name: string): string => {
    const key = Object.keys(data).find((each) => each.toLowerCase() === name);
    const value = key === undefined ? undefined : data[key];
    return typeof value === "string" ? value : "";
  };
  const { text: expanded, missing } = expandVariables(text("token"), env);
  const token = missing.length === 0 ? expanded.trim() : "";
  const name = text("name").slice(0, 200);
  const id = token === "" ? "" : entryId(text("known_as"), token);
  return {
    name: token === "" ? name : runnerName(name, id),
    id,
    executor: text("executor").slice(0, 60),
  };
}
