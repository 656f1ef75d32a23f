/**
 * The Go runner's command lines keep working: `-config x` (long names after one dash), `--flag=false` for switches, and
 * environment variables that fill flags. Commander does the rest.
 */

/** Go's spelling of truth. Anything else is not a boolean. */
const TRUE = ["1", "t", "T", "true", "TRUE", "True"];
const FALSE = ["0", "f", "F", "false", "FALSE", "False"];

/** `true`, `false`, or `undefined` for a text that is neither. */
export function parseBoolean(text: string): boolean | undefined {
  if (TRUE.includes(text)) return true;
  if (FALSE.includes(text)) return false;
  return undefined;
}

/**
 * `-config x` → `--config x` for each long name that is known, and `--docker-services_privileged` → `--docker-services-privileged`,
 * as some names of GitLab Runner have underscores. Short flags, negative numbers and what follows `--` stay.
 * @param longNames without dashes: `config`, `registration-token`
 */
export function normalizeArguments(argv: readonly string[], longNames: ReadonlySet<string>): string[] {
  const end = argv.indexOf("--");
  return argv.map((word, index) => {
    if (end !== -1 && index > end) return word;
    const [, name, value = ""] = /^--?([a-z][a-z0-9_-]+)(=.*)?$/su.exec(word) ?? [];
    if (name === undefined) return word;
    const known = longNames.has(name) ? name : name.replaceAll("_", "-");
    return longNames.has(known) ? `--${known}${value}` : word;
  });
}

/** For comparing: trailing slashes make no difference. */
export function plainUrl(url: string): string {
  return (URL.canParse(url) ? new URL(url).href : url).replace(/\/+$/, "");
}
