/** Whether a path fits GitLab's patterns of `changes`, `exists` and `cache:key:files`: Ruby's fnmatch with paths, dots and braces. */
export function globMatcher(pattern: string): (path: string) => boolean {
  const expressions = braces(pattern).map((one) => new RegExp(`^${translate(one)}$`, "su"));
  return (path) => expressions.some((expression) => expression.test(path));
}

/** Of patterns with so many alternatives only these are tried. */
const MOST_ALTERNATIVES = 1000;

/** `a{b,c}` → `ab`, `ac`. */
export function braces(pattern: string): string[] {
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
      const members = (set[2] ?? "").replace(/\\(.)/gs, "$1").replace(/[\\\]^[]/g, "\\$&");
      result += set[1] === "" ? `(?!/)[${members}]` : `[^/${members}]`;
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
