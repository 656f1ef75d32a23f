const SPECIAL = /[\\^$.|+()[\]{}]/g;

const quoted = (text: string): string => text.replace(SPECIAL, "\\$&");

/**
 * A glob over names with slashes: `*` and `?` stay within a part, `**` does not (and a leading one with a slash may be nothing at
 * all), `[a-z]`, `[!a-z]`, `{a,b}`. What is no valid group stands for itself.
 */
export function globExpression(glob: string): RegExp {
  let source = "";
  for (let at = 0; at < glob.length; at++) {
    const rest = glob.slice(at);
    const set = /^\[([!^]?)([^\]/]+)\]/.exec(rest);
    const choice = /^\{([^{}]*)\}/.exec(rest);
    if (rest.startsWith("**/")) {
      source += "(?:.*/)?";
      at += 2;
    } else if (rest.startsWith("**")) {
      source += ".*";
      at += 1;
    } else if (rest.startsWith("*")) source += "[^/]*";
    else if (rest.startsWith("?")) source += "[^/]";
    else if (set !== null && isRange(set[2] ?? "")) {
      source += `[${set[1] === "" ? "" : "^/"}${(set[2] ?? "").replace(/[\\[^]/g, "\\$&")}]`;
      at += set[0].length - 1;
    } else if (choice !== null) {
      source += `(?:${(choice[1] ?? "").split(",").map(wildcards).join("|")})`;
      at += choice[0].length - 1;
    } else source += quoted(glob.charAt(at));
  }
  return new RegExp(`^${source}$`, "s");
}

function wildcards(text: string): string {
  return quoted(text).replace(/\*\*/g, "\0").replace(/\*/g, "[^/]*").replace(/\?/g, "[^/]").replaceAll("\0", ".*");
}

/** `z-a` would be no expression at all. */
function isRange(text: string): boolean {
  return [...text.matchAll(/([^-])-([^-])/g)].every(([, from = "", to = ""]) => from <= to);
}
