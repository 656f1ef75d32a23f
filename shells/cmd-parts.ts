import type { ScriptParts } from "../src/shell.ts";
import { windowsPath } from "./command-line.ts";

/** Names of the script's own variables begin so; a job cannot have such. */
export const OWN = "ALLOY_RUNNER_SCRIPT_";
const DIRECTORY = `${OWN}DIR`;

/** Without a meaning anywhere in a line, also with delayed expansion and between or outside of quotes. */
const PLAIN = /^[\w .:\\/=,@+~#{}[\]$;'-]*$/;
/** cmd reads lines of at most 8191 characters. */
const LONGEST_PLAIN = 2000;

/** What a script's lines name, gathered while they are written. */
export interface Parts {
  /** Variables that the shell is started with. */
  readonly environment: Map<string, string>;
  /** Numbers for names that are the script's own. */
  next(): number;
  /** `text` as it can stand in a line: itself where nothing in it has a meaning, else the variable that holds it. */
  literal(text: string): string;
  /** The same in quotes, as Windows writes it. */
  path(text: string): string;
  /** The program's name in a line, with its ending. */
  program(name: string): string;
  /** Path of a file beside the script with this content, in quotes. */
  file(content: string, ending?: string): string;
  /** All of them, once the last line is written. */
  all(): ScriptParts;
}

/**
 * Values never stand in the text: line breaks, quotes and percent signs cannot be written there, and the code page decides
 * about the rest. They come in variables of the environment (`!NAME!` is put in after cmd has looked for operators) and in
 * files beside the script.
 */
export function createParts(): Parts {
  const files = new Map<string, string>();
  const environment = new Map<string, string>();
  const named = new Map<string, string>();
  const carried = new Map<string, string>();
  let serial = 0;
  const next = (): number => ++serial;
  const literal = (text: string): string => {
    if (PLAIN.test(text) && text.length <= LONGEST_PLAIN) return text;
    const known = carried.get(text);
    if (known !== undefined) return known;
    const name = `${OWN}${next()}`;
    environment.set(name, text);
    carried.set(text, `!${name}!`);
    return `!${name}!`;
  };
  const path = (text: string): string => `"${literal(windowsPath(text))}"`;
  return {
    environment,
    next,
    literal,
    path,
    program: (name) =>
      /[\\/.]/.test(name) ? path(name) : PLAIN.test(name) ? `${name}.exe` : `"${literal(`${name}.exe`)}"`,
    file: (content, ending = "") => {
      const key = `${ending}:${content}`;
      const known = named.get(key);
      if (known !== undefined) return known;
      const name = `part-${named.size + 1}${ending}`;
      files.set(name, content);
      named.set(key, `"!${DIRECTORY}!\\${name}"`);
      return `"!${DIRECTORY}!\\${name}"`;
    },
    all: () => ({
      environment: Object.fromEntries(environment),
      files: Object.fromEntries(files),
      directoryVariable: DIRECTORY,
    }),
  };
}
