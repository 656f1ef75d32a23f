import { secretForms } from "./disguises.ts";
import { maskText } from "./mask.ts";
import { compilePatterns } from "./patterns.ts";

/** Masks texts as a trace with these secrets does. The work is done with the first text. */
export function textMask(secrets: readonly string[], prefixes: readonly string[]): (text: string) => string {
  let patterns: ReturnType<typeof compilePatterns> | undefined;
  return (text) => {
    patterns ??= compilePatterns(secretForms(secrets), prefixes);
    return maskText(patterns, text).toString();
  };
}
