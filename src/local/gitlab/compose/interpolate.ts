import { expandText, type Lookup } from "../decide/expand.ts";
import type { Findings } from "../read/findings.ts";
import { type Entry, type Node, type Place, textNode } from "../read/node.ts";
import { asText, type Inputs } from "./inputs.ts";

/** What blocks `$[[ … ]]` of one file can name. */
export interface BlockValues {
  readonly inputs: Inputs;
  /** `component.sha` and its like; empty where the file is no component. */
  readonly component: ReadonlyMap<string, string>;
  readonly lookup: Lookup;
}

const BLOCK = /\$\[\[([\s\S]*?)\]\](?!\])/g;
const MOST_FUNCTIONS = 3;
const MOST_EXPRESSION = 1024;
const MOST_BLOCKS = 10_000;

/** Put values into keys and texts. A text that is nothing but a block becomes what the input is; a list in a list is spliced in. */
export function interpolate(content: Node, values: BlockValues, findings: Findings): Node {
  const done = new Map<Node, Node>();
  let blocks = 0;

  const blockValue = (expression: string, place: Place): Node | undefined => {
    if (++blocks > MOST_BLOCKS) {
      findings.error(place, `there are more than ${MOST_BLOCKS} blocks $[[ ]] in this file`);
      return undefined;
    }
    const problem = (text: string): undefined => {
      findings.error(place, `$[[${expression}]]: ${text}`);
      return undefined;
    };
    if (expression.length > MOST_EXPRESSION) return problem(`it is longer than ${MOST_EXPRESSION} characters`);
    const [access = "", ...functions] = expression.split("|").map((part) => part.trim());
    if (functions.length > MOST_FUNCTIONS) return problem(`at most ${MOST_FUNCTIONS} functions are allowed`);
    let value = accessed(access, place);
    if (typeof value === "string") return problem(value);
    for (const call of functions) {
      const result = applied(call, asText(value), values.lookup);
      if (typeof result !== "object") return problem(result);
      value = textNode(result.text, place);
    }
    return value;
  };
  const accessed = (access: string, place: Place): Node | string => {
    const [, root = "", name = "", rest = ""] = /^(\w+)\.([\w-]+)((?:\[\d+\]|\.[\w-]+)*)$/.exec(access) ?? [];
    if (root === "component") {
      const found = values.component.get(name);
      return found === undefined ? `"${access}" is nothing that a component's header asks for` : textNode(found, place);
    }
    if (root !== "inputs") return `unknown name "${access}": inputs.NAME is expected`;
    let node = values.inputs.get(name);
    if (node === undefined) return `unknown input "${name}"`;
    for (const [, index, key] of rest.matchAll(/\[(\d+)\]|\.([\w-]+)/g)) {
      node =
        index !== undefined && node?.kind === "list"
          ? node.items[Number(index)]
          : node?.kind === "table"
            ? node.entries.get(key ?? "")?.value
            : undefined;
      if (node === undefined) return `"${access}" is not there`;
    }
    return node;
  };
  /** `$[[ matrix.X ]]` is resolved later, by the plan. */
  const foreign = (expression: string): boolean => expression.trim().startsWith("matrix.");

  const inText = (text: string, place: Place): string =>
    text.replace(BLOCK, (whole, expression: string) => {
      if (foreign(expression)) return whole;
      const value = blockValue(expression, place);
      return value === undefined ? whole : asText(value);
    });
  const inScalar = (text: string, place: Place): Node | undefined => {
    if (!text.includes("$[[")) return undefined;
    if (/\$\[\[(?![\s\S]*\]\])/.test(text)) {
      findings.error(place, "a block $[[ is not closed with ]]");
      return undefined;
    }
    const whole = /^\$\[\[((?:(?!\]\])[\s\S]|\]\]\])*)\]\]$/.exec(text)?.[1];
    if (whole !== undefined && !foreign(whole)) return blockValue(whole, place);
    return textNode(inText(text, place), place);
  };
  const make = (node: Node): Node => {
    if (node.kind === "scalar")
      return typeof node.value === "string" ? (inScalar(node.value, node.place) ?? node) : node;
    if (node.kind === "list") {
      const items = node.items.flatMap((item) => {
        const made = walk(item);
        return made !== item && item.kind === "scalar" && made.kind === "list" ? made.items : [made];
      });
      return { ...node, items };
    }
    if (node.kind === "reference") {
      const path = walk(node.path);
      return path.kind === "list" ? { ...node, path } : node;
    }
    const entries = new Map<string, Entry>();
    for (const [key, entry] of node.entries)
      entries.set(inText(key, entry.place), { ...entry, value: walk(entry.value) });
    return { ...node, entries };
  };
  const walk = (node: Node): Node => {
    const known = done.get(node);
    if (known !== undefined) return known;
    const made = make(node);
    done.set(node, made);
    return made;
  };
  return walk(content);
}

function applied(call: string, text: string, lookup: Lookup): { readonly text: string } | string {
  if (call === "expand_vars") return { text: expandText(text, lookup, "left") };
  if (call === "posix_escape")
    return { text: text === "" ? "''" : text.replace(/[^A-Za-z0-9_\-.,:+/@\n]/g, "\\$&").replaceAll("\n", "'\n'") };
  const [, offset, length] = /^truncate\(\s*(\d+)\s*,\s*(\d+)\s*\)$/.exec(call) ?? [];
  if (offset === undefined || length === undefined)
    return `there is no function "${call}": expand_vars, truncate(offset,length) and posix_escape are there`;
  return { text: text.slice(Number(offset), Number(offset) + Number(length)) };
}
