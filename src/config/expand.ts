/** `$NAME` and `${NAME}` replaced from `env`; `$$` is `$`, and a `$` before anything else stays. */
export function expandVariables(
  text: string,
  env: Readonly<Record<string, string | undefined>>,
): { readonly text: string; readonly missing: readonly string[] } {
  const missing: string[] = [];
  const expanded = text.replace(
    /\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))/g,
    (whole, braced: string | undefined, bare: string | undefined) => {
      const name = braced ?? bare;
      if (name === undefined) return "$";
      const value = env[name];
      if (value !== undefined) return value;
      missing.push(name);
      return whole;
    },
  );
  return { text: expanded, missing };
}
