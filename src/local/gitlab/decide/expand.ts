/** Variables in texts, as GitLab's server puts them in. */

export type Lookup = (name: string) => string | undefined;

const NAME = "[A-Za-z_][A-Za-z0-9_]*";
const ONE = new RegExp(`\\$(${NAME})|\\$\\{(${NAME})\\}|%(${NAME})%`, "g");
/** Values of variables keep `$$` and `%%`: they are for the runner, or for nobody. */
const ONE_OR_ESCAPE = new RegExp(`\\$\\$|%%|${ONE.source}`, "g");

/** Expands a text that is no variable's value, in one pass. An unknown variable is left as it is, or becomes empty. */
export function expandText(text: string, lookup: Lookup, unknown: "left" | "empty"): string {
  return text.replace(ONE, (whole, a?: string, b?: string, c?: string) => {
    const value = lookup(a ?? b ?? c ?? "");
    return value ?? (unknown === "left" ? whole : "");
  });
}

export interface RawVariable {
  readonly key: string;
  readonly value: string;
  /** `expand: false`. */
  readonly raw: boolean;
}

/**
 * Values of one job's variables with one another put in, whatever their order.
 * @param variables later ones win; one that names itself means the one before it
 * @returns or a circle of names
 */
export function expandVariables(
  variables: readonly RawVariable[],
): { readonly values: ReadonlyMap<string, RawVariable> } | { readonly circle: readonly string[] } {
  const levels = new Map<string, RawVariable[]>();
  for (const variable of variables) {
    const list = levels.get(variable.key);
    if (list === undefined) levels.set(variable.key, [variable]);
    else list.push(variable);
  }
  const done = new Map<string, RawVariable>();
  const open: string[] = [];
  let circle: string[] | undefined;
  const expandedValue = (name: string): string | undefined => {
    const known = done.get(name);
    // A value that is not expanded is handed to other values late, by the runner.
    if (known !== undefined) return known.raw ? undefined : known.value;
    const list = levels.get(name);
    const last = list?.at(-1);
    if (list === undefined || last === undefined) return undefined;
    if (last.raw) return undefined;
    if (open.includes(name)) {
      circle ??= [...open.slice(open.indexOf(name)), name];
      return undefined;
    }
    open.push(name);
    const value = resolve(list, list.length - 1);
    open.pop();
    done.set(name, { key: name, value, raw: false });
    return value;
  };
  const resolve = (list: readonly RawVariable[], level: number): string => {
    const own = list[level];
    if (own === undefined) return "";
    if (own.raw) return own.value;
    return own.value.replace(ONE_OR_ESCAPE, (whole, a?: string, b?: string, c?: string) => {
      const name = a ?? b ?? c;
      if (name === undefined) return whole;
      if (name === own.key) return level > 0 ? resolve(list, level - 1) : whole;
      return expandedValue(name) ?? whole;
    });
  };
  for (const [name, list] of levels) {
    const last = list.at(-1);
    if (last?.raw === true) done.set(name, last);
    else expandedValue(name);
  }
  return circle === undefined ? { values: done } : { circle };
}
