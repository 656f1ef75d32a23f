/**
 * Arguments as Windows programs read them (Microsoft's C runtime, and .NET on every platform): quotes around what needs
 * them, a backslash before each quote, and doubled backslashes before a quote only. NUL cannot be passed and is left out.
 */
export function commandLine(args: readonly string[]): string {
  return args.map(quoteArgument).join(" ");
}

function quoteArgument(argument: string): string {
  const text = argument.replaceAll("\0", "");
  if (text !== "" && !/[\s"\v]/.test(text)) return text;
  return `"${text.replace(/(\\*)"/g, '$1$1\\"').replace(/(\\+)$/, "$1$1")}"`;
}

/**
 * `text` in the way that Windows separates directories, without a separator at the end and without what no path can hold:
 * above all `*` and `?`, which cmd would take for a pattern of other files.
 */
export function windowsPath(text: string): string {
  const path = text
    .replace(/[\0-\x1f"]/g, "")
    .replace(/[*?]/g, "_")
    .replaceAll("/", "\\");
  const trimmed = path.replace(/\\+$/, "");
  return trimmed === "" || trimmed.endsWith(":") ? `${trimmed}\\` : trimmed;
}
