/** Contract of `shells/`: instructions as data, and who turns them into the text of one script. */

export type ShellName = "bash" | "sh" | "cmd" | "powershell" | "pwsh";

/** A program and its arguments; each is literal. */
export type Argv = readonly [string, ...string[]];

export type Tone = "plain" | "notice" | "warning" | "error";

/** A question that a script asks before it goes on. Paths are literal. */
export type Test =
  | { test: "directory" | "file" | "exists" | "symlink"; path: string }
  /** The program can be found on PATH. */
  | { test: "program"; name: string }
  /** The command ends with status 0; its output is thrown away. */
  | { test: "succeeds"; argv: Argv }
  /** Somewhere below `path`, but not right in it, is a directory called `name`; the inside of `path`/`name` does not count. */
  | { test: "nested"; path: string; name: string }
  | { test: "not"; of: Test };

/** One instruction of a script, the same for every shell. Strings are literal; quoting is the writer's work. */
export type Op =
  /**
   * Set and export a variable. The name was checked by the caller (`job/variables/variables.ts`).
   * `around`: literal texts between which the value stands that the variable has by then; `value` is not used.
   * `PATH=$PATH:/x` is `["", ":/x"]`.
   */
  | { op: "export"; name: string; value: string; around?: readonly string[] }
  /** Remove a variable from the environment of what follows. */
  | { op: "unset"; name: string }
  /** Save `content` byte for byte as `path` (mode 0600, directory 0700) and export `name` as that path. */
  | { op: "exportFile"; name: string; path: string; content: string }
  /**
   * Export `name` as `path`, a file that is made (0600) where it is missing, and then each line `NAME=value` in it: the value as it
   * is, but for a carriage return at its end. Other lines, and names that the shell cannot set, are left out. A shell without a
   * way to do so does nothing of it.
   */
  | { op: "exportLines"; name: string; path: string }
  /** Save `content` byte for byte as `path` (mode 0600, parent directories made with 0700). */
  | { op: "write"; path: string; content: string }
  | { op: "run"; argv: Argv }
  /** The author's own shell text, verbatim, followed by a fresh line. */
  | { op: "source"; text: string }
  | { op: "cd" | "mkdir"; path: string }
  /** Remove a file or a whole tree, also one whose directories were made unwritable. Missing is fine; never follows links. */
  | { op: "remove"; path: string }
  /** Remove all files below `path` whose base name matches one of `names` (literal, or `*.ending`). Missing `path` is fine. */
  | { op: "removeNamed"; path: string; names: readonly string[] }
  | { op: "print"; text: string; tone: Tone }
  /**
   * Print `text` as a section of the trace that is folded, whose name is `section` (`[A-Za-z0-9_.-]+`) and which ends at once;
   * `line` where a shell has no clock.
   */
  | { op: "printSection"; section: string; text: string; line: string; tone: Tone }
  | { op: "when"; test: Test; then: readonly Op[]; else?: readonly Op[] }
  /** Run `body` up to `attempts` times with `pauseSeconds` in between until it succeeds; its last status is the status. */
  | { op: "repeat"; attempts: number; pauseSeconds: number; body: readonly Op[] }
  /** End the script, or the try of a `repeat`, with this status. */
  | { op: "exit"; status: number };

export interface WriteOptions {
  /** Directory of the job beside its checkout; the script may put files of its own there. */
  readonly tmpDir: string;
  /** Print commands as they run (`CI_DEBUG_TRACE`): from the first `source` on, never the exports before it. */
  readonly xtrace: boolean;
  /**
   * Printed on a line of its own, before the first instruction and only when the shell has read the whole script.
   * `job/life/stages/proof.ts` takes it out of the output again: without it, status 0 is no success.
   */
  readonly proof: string;
}

/** How a shell is started. */
export interface ShellCommand {
  readonly argv: Argv;
  /** Where the script text goes. `file`: its path is appended to `argv`. */
  readonly scriptOn: "stdin" | "file";
  /** Ending of the script's file name, with the dot: `.cmd`. */
  readonly extension: string;
  /**
   * Variables that make the shell start sooner, for a place that can set them; one that is set there already is left as it is.
   * The script takes those of exactly this value away again: no program of the author's has them.
   */
  readonly hastening?: Readonly<Record<string, string>>;
}

/**
 * What a script needs beside its text, where the shell's own language cannot carry every value (cmd: line breaks, quotes,
 * characters beyond its code page). Holds secrets.
 */
export interface ScriptParts {
  /** Variables that the shell is started with, over those that it inherits. */
  readonly environment: Readonly<Record<string, string>>;
  /**
   * Files in a directory of their own, private to the script and gone with it: plain base name → content.
   * `directoryVariable` is set to its absolute path.
   */
  readonly files: Readonly<Record<string, string>>;
  readonly directoryVariable: string;
}

/** Instructions → the text of one script. Pure: same input, same bytes; no clock, host or file is read. */
export interface ShellWriter {
  readonly name: ShellName;
  /** The script ends at the first failing instruction, with that status. A user's `exit N` is N. */
  write(ops: readonly Op[], options: WriteOptions): string;
  /** What the text of `write` with the same arguments needs beside it. Writers without it need nothing. */
  parts?(ops: readonly Op[], options: WriteOptions): ScriptParts;
  command(options: { login: boolean }): ShellCommand;
  /** Can the shell hold a variable of this name? (`UID` is read-only in bash; `A-B` is no name in POSIX shells.) */
  acceptsName(name: string): boolean;
}
