import { quoted } from "../../remote/index.ts";

/** What any login shell leaves alone between single quotes, and sh between double quotes. */
const PLAIN = /[^A-Za-z0-9 _./:=,@%+\-|&;<>(){}[\]*?#~]/g;

/** Dropbear hangs up on command lines of more than 9000 bytes, Linux gives 128 KiB to one argument. */
const LONGEST_BYTES = 8000;

export interface CommandLine {
  readonly line: string;
  /** Comes first on its standard input. */
  readonly input: string;
}

/** One character per byte, also for text that was meant as text. */
function bytesOf(text: string): string {
  return /[^\x00-\xff]/.test(text) ? Buffer.from(text).toString("latin1") : text;
}

/**
 * A command line that runs `script` with `args` (one character per byte) by sh, whatever the account's login shell is: bash,
 * dash, busybox, zsh, csh and fish disagree on quotes, backslashes, `!` and newlines, so there are none of those in it.
 * `preface` is printed first: what comes before it was printed by a profile.
 * What is too long for a command line is read from its standard input, of which `read` takes not one byte more.
 * @throws {RangeError} it holds a NUL
 */
export function commandLine(script: string, args: readonly string[], preface: string): CommandLine {
  const text = `printf '%s\\n' ${quoted([preface])}\nset -- ${quoted(args.map(bytesOf))}\n${bytesOf(script)}`;
  const plain = text.replace(PLAIN, (character) => {
    const code = character.charCodeAt(0);
    if (code === 0) throw new RangeError("a command for a far host holds a NUL");
    return `\\0${code.toString(8).padStart(3, "0")}`;
  });
  if (plain.length <= LONGEST_BYTES) {
    return { line: `exec sh -c 'eval "$(printf %b "${plain}")"' alloy-runner`, input: "" };
  }
  const line = `exec sh -c 'eval "$(IFS= read -r text; printf %b "$text")"' alloy-runner`;
  return { line, input: `${plain}\n` };
}
