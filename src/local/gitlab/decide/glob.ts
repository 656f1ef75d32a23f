import { compile } from "./regex.ts";

/** Whether a path fits GitLab's patterns of `changes`, `exists` and `cache:key:files`: Ruby's fnmatch with paths, dots and braces. */
export function globMatcher(pattern: string): (path: string) => boolean {
  // RE2 takes no more than linear time, whatever pattern a file has.
  const expressions = braces(pattern).flatMap((one) => compile(`^${translate(one)}$`, "s") ?? []);
  return (path) => expressions.some((expression) => expression.matches(path));
}

/** Of a pattern with more alternatives only this many are tried. */
const MOST_ALTERNATIVES = 1000;

/** `a{b,c}` → `ab`, `ac`. */
function braces(pattern: string): string[] {
  let open = -1;
  let depth = 0;
  const commas: number[] = [];
  for (let index = 0; index < pattern.length; index++) {
    const sign = pattern[index];
    if (sign === "\\") index++;
    else if (sign === "{" && depth++ === 0) open = index;
    else if (sign === "," && depth === 1) commas.push(index);
    else if (sign === "}" && depth > 0 && --depth === 0) {
      const edges = [open, ...commas, index];
      const before = pattern.slice(0, open);
      const after = braces(pattern.slice(index + 1));
      return edges
        .slice(1)
        .flatMap((edge, part) => braces(pattern.slice((edges[part] ?? 0) + 1, edge)))
        .flatMap((middle) => after.map((rest) => before + middle + rest))
        .slice(0, MOST_ALTERNATIVES);
    }
  }
  return [pattern];
}

function translate(pattern: string): string {
  let result = "";
  for (let index = 0; index < pattern.length; ) {
    const rest = pattern.slice(index);
    const atSegment = index === 0 || pattern[index - 1] === "/";
    const folders = atSegment ? /^(?:\*\*\/)+/.exec(rest) : null;
    const set = /^\[([!^]?)((?:\\.|[^\]\\])+)\]/s.exec(rest);
    if (folders !== null) {
      result += "(?:[^/]+/)*";
      index += folders[0].length;
    } else if (rest.startsWith("*")) {
      result += "[^/]*";
      index += /^\*+/.exec(rest)?.[0].length ?? 1;
    } else if (rest.startsWith("?")) {
      result += "[^/]";
      index++;
    } else if (set !== null) {
      const members = (set[2] ?? "").replace(/\\(.)/gs, "$1");
      const inClass = (text: string): string => text.replace(/[\\\]^[]/g, "\\$&");
      const kept = withoutSlash(members);
      result += set[1] !== "" ? `[^/${inClass(members)}]` : kept === "" ? NOTHING : `[${inClass(kept)}]`;
      index += set[0].length;
    } else {
      if (rest.startsWith("\\") && rest.length > 1) index++;
      const sign = String.fromCodePoint(pattern.codePointAt(index) ?? 0);
      result += sign.replace(/[\\^$.*+?()[\]{}|/]/, "\\$&");
      index += sign.length;
    }
  }
  return result;
}

const NOTHING = "[^\\x00-\\x{10FFFF}]";

/** Members of a set, ranges among them, but for the `/` that no set matches. */
function withoutSlash(members: string): string {
  return members.replace(/(.)-(.)|\//gsu, (range, from?: string, to?: string) => {
    if (from === undefined || to === undefined) return "";
    if (from > "/" || to < "/") return range;
    return `${from < "/" ? `${from}-.` : ""}${to > "/" ? `0-${to}` : ""}`;
  });
}
