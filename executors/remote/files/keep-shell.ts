import { PassThrough } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import { createTurns, pause } from "../../../src/time.ts";
import type { RemoteCommands } from "../commands.ts";
import { quoted } from "../run-to-end.ts";
import type { RemoteTools } from "../tools.ts";
import { calls } from "./rows.ts";

/** What the far side says of one thing: all that a change of it would change. */
export interface Facts {
  /** As the far side has it. */
  readonly path: string;
  readonly kind: "file" | "directory" | "symlink" | "other";
  readonly device: string;
  readonly owner: string;
  readonly mode: number;
  readonly size: number;
  /** Of last modification; `null`: it is no whole number of seconds. */
  readonly mtimeSeconds: number | null;
  readonly links: string;
  /** All but when it was changed last, for comparing. */
  readonly rest: string;
  /** When it was changed last: texts of one host sort as times do. */
  readonly changed: string;
}

/** One shell on the far side that does one call after the other, so that a look and what follows from it start one program. */
export interface KeepShell extends AsyncDisposable {
  /** Types of file systems, as `statfs` has them in hexadecimal. */
  types(paths: readonly string[]): Promise<readonly string[]>;
  /**
   * Of these, as far as they are there, or `deep`: of these and all that is in them.
   * @throws {SystemFailure} more than `most`, or not all can be looked at
   */
  look(how: "flat" | "deep", paths: readonly string[], most: number, onFacts: (facts: Facts) => void): Promise<void>;
  /** Where links lead, in this order. @throws {SystemFailure} that is not told of each */
  targets(links: readonly string[]): Promise<readonly string[]>;
  /** SHA-256 of what is in files, in this order. @throws {SystemFailure} that is not told of each */
  sums(files: readonly string[]): Promise<readonly string[]>;
  /** Another shell of the same place. @throws {SystemFailure} it cannot be started */
  beside(): Promise<KeepShell>;
  /** Removes a directory with all that is in it. */
  clear(path: string): void;
  /** Makes a directory for its account alone, and those above it. */
  make(path: string): Promise<boolean>;
  move(pairs: readonly (readonly [from: string, to: string])[]): Promise<boolean>;
  /** Removes directories in which nothing is. */
  leave(paths: readonly string[]): Promise<void>;
  /** Whether each later change gets a later time than this: waits a little until it is so. `at` is for a file of its own. */
  isPast(changed: string, at: string): Promise<boolean>;
}

/** The programs are the system's, whatever a profile says. A link is never followed. */
const PROGRAM = `
LC_ALL=C TZ=UTC0 PATH=/usr/bin:/bin:/usr/sbin:/sbin; export LC_ALL TZ PATH
said() { printf "%s$end$end" "$1"; }
types() { for each do printf "type %s$end$end" "$(stat -f -c %t "$each" 2>/dev/null </dev/null)"; done; }
flat() { show "$@" -maxdepth 0; }
deep() { show "$@" || bad=1; }
make() { (umask 077; mkdir -p "\${1%/*}" && mkdir "$1") 2>/dev/null </dev/null && said yes; }
move() { [ -n "$bad" ] || mv -f "$1" "$2" 2>/dev/null </dev/null || bad=1; }
well() { [ -n "$bad" ] || said yes; }
tick() { (umask 077; : >"$1"); flat "$1"; rm -f "$1"; }
links() { for each do readlink "$each" </dev/null || bad=1; printf "$end$end"; done; }
sums() { sha256sum "$@" </dev/null 2>/dev/null | cut -c 1-64; printf "$end$end"; }
clear() {
  if [ -d "$1" ] && [ ! -L "$1" ]; then find "$1" -type d ! -perm -700 -exec chmod u+rwx {} \\; ; fi
  rm -rf "$1"
} 2>/dev/null </dev/null
bad=
`;
const SHOW = {
  "find -printf": `end='\\0'; show() { find "$@" -printf '%D %i %m %U %G %s %T@ %n %y|%C@\\0%p\\0' 2>/dev/null </dev/null; }\n`,
  "stat -c": `end=//; show() { find "$@" -exec stat -c '%d %i %u %g %s %y %h %f|%z//%n//' {} + 2>/dev/null </dev/null; }\n`,
};

/** What is known of files is in memory while they are looked at. */
export const MOST_LOOKED_AT = 100_000;

/** Names, or the sums of the files that one call names. */
const LONGEST_ANSWER = 1024 * 1024;

/** A tick of the longest clock has 10 ms; where times have whole seconds nothing is kept. */
const LOOKS = 25;
const LOOK_PAUSE_MS = 4;

/** @throws {SystemFailure} it cannot be started, or the programs there tell too little of files */
export async function openKeepShell(
  commands: RemoteCommands,
  { sh, stat }: Pick<RemoteTools, "sh" | "stat">,
  signal: AbortSignal,
): Promise<KeepShell> {
  if (stat !== "find -printf" && stat !== "stat -c") throw new SystemFailure("no program there tells all of a file");
  const stop = new AbortController();
  const onAbort = (): void => stop.abort(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  const stdin = new PassThrough();
  // A shell without arguments reads its input line by line, and does each before it reads the next.
  const { stdout, exit } = await commands.start({ script: 'exec "$1"', args: [sh], stdin }, stop.signal);
  exit.catch(() => {}); // an answer that ends too early is what is thrown
  stdin.on("error", () => {});
  const tokens = tokensOf(stdout, stat === "find -printf" ? "\0" : "//");
  const send = (text: string): void => void stdin.write(Buffer.from(text, "latin1"));
  send(`${SHOW[stat]}${PROGRAM}`);
  const turn = createTurns();
  /** What comes until `end`, in pairs. */
  const answer = async (onPair: (meta: string, name: string) => void): Promise<void> => {
    send("said end\n");
    for (;;) {
      const [meta, name] = [await tokens.next(), await tokens.next()];
      signal.throwIfAborted();
      if (meta.done === true || name.done === true) throw new SystemFailure("the look at files ended too early");
      if (name.value === "" && meta.value.trim() === "end") return;
      onPair(meta.value, name.value);
      await turn();
    }
  };
  const isDone = async (): Promise<boolean> => {
    let done = false;
    await answer((meta, name) => {
      done ||= name === "" && meta.trim() === "yes";
    });
    return done;
  };
  const look: KeepShell["look"] = async (how, paths, most, onFacts) => {
    for (const line of callsOf(how, paths)) send(line);
    if (how === "deep") send("well\n");
    let seen = 0;
    let isWhole = how === "flat";
    await answer((meta, name) => {
      if (name === "") isWhole ||= meta.trim() === "yes";
      else if (++seen > most) throw new SystemFailure(`there are more than ${most} files`);
      else onFacts(factsOf(meta, name));
    });
    if (!isWhole) throw new SystemFailure("not all of the files could be looked at");
  };
  return {
    look,
    async types(paths) {
      send(`types ${quoted(paths)}\n`);
      const types: string[] = [];
      await answer((meta) => types.push(meta.trim().slice("type ".length)));
      return types.length === paths.length ? types : [];
    },
    async targets(links) {
      const targets: string[] = [];
      for (const line of callsOf("links", links)) send(line);
      await answer((meta) => targets.push(meta.replace(/\n$/, "")));
      if (targets.length !== links.length) throw new SystemFailure("where links lead is not told");
      return targets;
    },
    async sums(files) {
      const sums: string[] = [];
      for (const line of callsOf("sums", files)) send(line);
      await answer((meta) => {
        for (const sum of meta.split("\n")) if (/^[0-9a-f]{64}$/.test(sum)) sums.push(sum);
      });
      if (sums.length !== files.length) throw new SystemFailure("what is in files is not told");
      return sums;
    },
    beside: () => openKeepShell(commands, { sh, stat }, signal),
    clear: (path) => send(`clear ${quoted([path])}\n`),
    async make(path) {
      send(`make ${quoted([path])}\n`);
      return await isDone();
    },
    async move(pairs) {
      for (const pair of pairs) send(`move ${quoted(pair)}\n`);
      send("well\n");
      return await isDone();
    },
    async leave(paths) {
      for (const path of paths) send(`rmdir ${quoted([path])} 2>/dev/null </dev/null\n`);
      await answer(() => {});
    },
    async isPast(changed, at) {
      for (let time = 0; time < LOOKS; time++) {
        if (time > 0) await pause(LOOK_PAUSE_MS, signal);
        send(`tick ${quoted([at])}\n`);
        let now = "";
        await answer((meta, name) => {
          now = factsOf(meta, name).changed;
        });
        if (now > changed) return true;
      }
      return false;
    },
    async [Symbol.asyncDispose]() {
      signal.removeEventListener("abort", onAbort);
      stdin.end();
      stdout.destroy();
      stop.abort(new Error("nothing more is asked"));
      await exit.catch(() => {});
    },
  };
}

/** Calls with absolute paths. */
function callsOf(name: string, paths: readonly string[]): Iterable<string> {
  return calls(
    name,
    paths.map((path) => path.slice(1)),
    "",
  );
}

async function* tokensOf(stdout: AsyncIterable<Uint8Array>, mark: string): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of stdout) {
    const parts = (rest + Buffer.from(chunk).toString("latin1")).split(mark);
    rest = parts.pop() ?? "";
    if (rest.length > LONGEST_ANSWER) throw new SystemFailure("a name has no end");
    yield* parts;
  }
}

/** device, inode, mode, owner, group, size, modified, names, kind | changed */
const GNU =
  /^((\d+) \d+ ([0-7]{1,5}) (\d+) \d+ (\d{1,15}) (-?\d{1,12}(?:\.\d+)?) (\d+) ([a-zA-Z?]))\|(\d{1,12}\.\d{9,10})$/;
/** device, inode, owner, group, size, modified, names, mode with kind | changed */
const STAT =
  /^((\d+) \d+ (\d+) \d+ (\d{1,15}) (\d{4,}-\d\d-\d\d) ([\d:]{8}(?:\.\d+)?) \+0000 (\d+) ([0-9a-f]{1,8}))\|(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9}) \+0000$/;

function factsOf(meta: string, path: string): Facts {
  const text = meta.replace(/^\n/, "");
  const said = path.startsWith("/") ? (ofFind(text) ?? ofStat(text)) : null;
  if (said === null) throw new SystemFailure(`"${text.slice(0, 100)}" tells too little of a file`);
  return { path, ...said };
}

function ofFind(text: string): Omit<Facts, "path"> | null {
  const found = GNU.exec(text);
  if (found === null) return null;
  const [, rest = "", device = "", mode = "", owner = "", size, modified = "", links = "", type = "", changed = ""] =
    found;
  const [seconds = "", fraction = ""] = modified.split(".");
  const mtimeSeconds = /^0*$/.test(fraction) ? Number(seconds) : null;
  const its = { device, owner, mode: Number.parseInt(mode, 8), size: Number(size), mtimeSeconds, links, rest };
  return { ...its, kind: KINDS.get(type) ?? "other", changed: changed.padStart(24) };
}

function ofStat(text: string): Omit<Facts, "path"> | null {
  const found = STAT.exec(text);
  if (found === null) return null;
  const [, rest = "", device = "", owner = "", size, day, hours = "", links = "", type = "", changed = ""] = found;
  const [whole = "", fraction = ""] = hours.split(".");
  const mtimeSeconds = /^0*$/.test(fraction) ? Date.parse(`${day}T${whole}Z`) / 1000 : null;
  const bits = Number.parseInt(type, 16);
  const its = { device, owner, mode: bits & 0o7777, size: Number(size), mtimeSeconds, links, rest };
  return { ...its, kind: KINDS.get(type.length === 4 ? (type[0] ?? "") : "") ?? "other", changed };
}

/** By the letter of `find`, or the first hexadecimal digit of a mode. */
const KINDS = new Map<string, Facts["kind"]>([
  ["f", "file"],
  ["d", "directory"],
  ["l", "symlink"],
  ["8", "file"],
  ["4", "directory"],
  ["a", "symlink"],
]);
