import { stringify } from "yaml";
import { printable } from "../../report/text-width.ts";
import { plain, type Table } from "../read/node.ts";

/** A composed file as YAML; in front of each part stands where it comes from. */
export function printTable(table: Table): string {
  return [...table.entries]
    .map(([name, { place, value }]) => {
      const entry: Record<string, unknown> = Object.create(null);
      entry[name] = plain(value);
      const yaml = stringify(entry, { aliasDuplicateObjects: false, lineWidth: 0, version: "1.1" });
      // What is quoted for its controls still has those that JSON allows.
      const shown = yaml.replace(/[\x7f-\x9f]/g, (sign) => `\\x${sign.charCodeAt(0).toString(16)}`);
      return `# ${printable(place.file)}:${place.line}\n${shown}`;
    })
    .join("\n");
}
