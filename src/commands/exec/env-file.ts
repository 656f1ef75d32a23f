import { CommandError } from "../../errors.ts";

export const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * `NAME=value` lines, `#` comments, `export` in front, quotes around; as docker and dotenv read them.
 * @throws {CommandError} a line is none
 */
export function readEnvText(text: string, file: string): { readonly key: string; readonly value: string }[] {
  return text
    .replace(/^\uFEFF/, "")
    .split(/\r?\n/)
    .flatMap((line, index) => {
      const trimmed = line.trim().replace(/^export\s+/, "");
      if (trimmed === "" || trimmed.startsWith("#")) return [];
      const split = trimmed.indexOf("=");
      const key = trimmed.slice(0, Math.max(0, split)).trimEnd();
      // The key is not printed, as it may be a part of a value.
      if (!NAME.test(key)) throw new CommandError(`${file}:${index + 1}: expected NAME=value`);
      return [{ key, value: unquote(trimmed.slice(split + 1).trimStart()) }];
    });
}

function unquote(text: string): string {
  const single = /^'([^']*)'\s*(?:#.*)?$/.exec(text)?.[1];
  if (single !== undefined) return single;
  const double = /^"((?:[^"\\]|\\.)*)"\s*(?:#.*)?$/.exec(text)?.[1];
  if (double === undefined) return text.replace(/\s+#.*$/, "");
  return double.replace(/\\(.)/g, (_, sign: string) => ({ n: "\n", t: "\t", r: "\r" })[sign] ?? sign);
}
