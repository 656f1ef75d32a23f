import { stringify } from "yaml";
import { plain, type Table } from "../read/node.ts";

/** A composed file as YAML; in front of each part stands where it comes from. */
export function printTable(table: Table): string {
  return [...table.entries]
    .map(([name, { place, value }]) => {
      const entry: Record<string, unknown> = Object.create(null);
      entry[name] = plain(value);
      const yaml = stringify(entry, { aliasDuplicateObjects: false, lineWidth: 0, version: "1.1" });
      return `# ${place.file}:${place.line}\n${yaml}`;
    })
    .join("\n");
}
