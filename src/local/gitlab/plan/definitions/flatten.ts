import type { Findings } from "../../read/findings.ts";
import { isNull, type Node, textOf } from "../../read/node.ts";

const MOST_LEVELS = 10;

/** Nested lists as one: what `!reference` puts into a list. @returns `undefined`: they are nested deeper than GitLab goes */
export function flattened(node: Node | undefined): readonly Node[] | undefined {
  if (node === undefined || isNull(node)) return [];
  const found: Node[] = [];
  const walk = (part: Node, level: number): boolean => {
    if (part.kind !== "list") {
      found.push(part);
      return true;
    }
    return level < MOST_LEVELS && part.items.every((item) => walk(item, level + 1));
  };
  return walk(node, 0) ? found : undefined;
}

/** The lines of a script. */
export function scriptLines(node: Node | undefined, name: string, findings: Findings): string[] {
  const parts = flattened(node);
  if (parts === undefined || node === undefined) {
    if (node !== undefined) complain(node, name, findings);
    return [];
  }
  return parts.flatMap((part) => {
    const text = textOf(part);
    if (text !== undefined) return [text];
    complain(part, name, findings);
    return [];
  });
}

function complain(node: Node, name: string, findings: Findings): void {
  const hint = node.kind === "table" ? ': put a line that has ": " in it into quotes' : "";
  findings.error(
    node.place,
    `${name} must be a text, or a list of texts nested up to ${MOST_LEVELS} levels deep${hint}`,
  );
}
