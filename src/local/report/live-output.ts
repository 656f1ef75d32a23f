import type { Writable } from "node:stream";
import { StringDecoder } from "node:string_decoder";
import type { LocalJob } from "../coordinator/jobs/job.ts";
import { createProgress } from "./progress.ts";
import { padToWidth, printable, textWidth } from "./text-width.ts";

/** A job's output as lines of a shared display. */
export interface JobDisplay {
  /** A runner works on it from now on. */
  started(): void;
  write(bytes: Buffer): void;
  /** What the stored trace has beyond the live text, and the line that was not finished. */
  end(job: LocalJob): void;
}

export interface LiveOutput {
  /** A line of its own. */
  line(text: string): void;
  open(name: string): JobDisplay;
  /** Nothing of a progress display stays; all lines are written. */
  close(): void;
}

/** Size of the terminal that the output is, asked for whenever something is drawn. */
export interface TerminalSize {
  columns(): number;
  rows(): number;
}

export interface LiveOutputOptions {
  readonly colors: boolean;
  /** Of the jobs that are known beforehand, so that their lines are aligned. */
  readonly names: readonly string[];
  /** With it, a line per running job is kept up to date below the output. */
  readonly terminal?: TerminalSize | undefined;
}

const COLORS = [36, 33, 35, 32, 34, 96, 93, 95, 92, 94];
const NAME_WIDTH_MAX = 24;
/** A line without an end is shown in pieces of this many characters. */
const LONGEST_LINE = 65_536;

export function createLiveOutput(output: Writable, { colors, names, terminal }: LiveOutputOptions): LiveOutput {
  const most = terminal === undefined ? NAME_WIDTH_MAX : Math.min(NAME_WIDTH_MAX, Math.max(8, terminal.columns() >> 2));
  const known = [...names];
  let width = Math.min(most, Math.max(...names.map((name) => textWidth(printable(name))), 0));
  const progress = terminal === undefined ? undefined : createProgress(output, { colors, ...terminal });
  const line = (text: string): void => {
    if (output.destroyed || output.errored || output.writableEnded) return;
    if (progress === undefined) output.write(`${text}\n`);
    else progress.line(text);
  };
  return {
    line,
    close: () => progress?.close(),
    open(name) {
      const key = {};
      if (!known.includes(name)) known.push(name);
      width = Math.min(most, Math.max(width, textWidth(printable(name))));
      const shown = padToWidth(printable(name), width);
      const color = COLORS[known.indexOf(name) % COLORS.length];
      const prefix = colors ? `\x1b[${color}m${shown} │\x1b[0m ` : `${shown} │ `;
      const clean = createLineCleaner(colors);
      let decoder = new StringDecoder("utf8");
      let pending = "";
      let shownBytes = 0;
      const print = (raw: string): void => {
        const text = clean(raw);
        if (text === undefined) return;
        line(`${prefix}${text}`.trimEnd());
        progress?.say(key, visible(text));
      };
      const add = (text: string): void => {
        const lines = (pending + text).split("\n");
        pending = lines.pop() ?? "";
        for (const finished of lines) print(finished);
        if (pending.length <= LONGEST_LINE) return;
        print(pending);
        pending = "";
      };
      return {
        started: () => progress?.start(key, printable(name)),
        write(bytes) {
          shownBytes += bytes.length;
          add(decoder.write(bytes));
        },
        end(job) {
          const stored = job.dialect === "alloy" ? job.traceBytes : job.liveBytes;
          const live = job.liveBytes.subarray(0, shownBytes);
          const same = commonLength(stored, live);
          if (same === live.length) add(decoder.write(stored.subarray(same)));
          else {
            // The last word differs from what was shown: again from the beginning of that line.
            decoder = new StringDecoder("utf8");
            pending = "";
            if (stored.length > 0) add(decoder.write(stored.subarray(stored.lastIndexOf(10, same - 1) + 1)));
          }
          add(decoder.end());
          if (pending !== "") print(pending);
          pending = "";
          progress?.end(key);
        },
      };
    },
  };
}

function commonLength(a: Buffer, b: Buffer): number {
  const most = Math.min(a.length, b.length);
  if (a.subarray(0, most).equals(b.subarray(0, most))) return most;
  let index = 0;
  while (a[index] === b[index]) index++;
  return index;
}

/**
 * A line as a terminal would leave it: section markers are gone, of a line that was written over with `\r` the last
 * state stays, cursor movements and other controls are taken out. Colours stay where wanted, and end with their line.
 * @returns for each line its text, or `undefined` for one that was nothing but a marker
 */
export function createLineCleaner(colors: boolean): (line: string) => string | undefined {
  /** The colour that a line before this one left on. */
  let open = "";
  return (line) => {
    const withoutMarkers = line.replace(/section_(?:start|end):\d+:[^\r\n\x1b]*\r(?:\x1b\[0?K)?/g, "");
    const states = withoutMarkers.split("\r").filter((state) => visible(state) !== "" || state.includes("\x1b["));
    const last = states.findLast((state) => visible(state) !== "") ?? states.join("");
    const empty = visible(last) === "";
    // Colours that an overwritten state switched on are still on.
    const codes = withoutMarkers.match(SGR) ?? [];
    if (empty && withoutMarkers !== line && codes.length === 0) return undefined;
    if (!colors) return empty && withoutMarkers !== line ? undefined : visible(last);
    const kept = last.replace(OTHER_CONTROLS, "");
    const text = open + kept;
    const final = [open, ...codes].findLast((code) => code !== "") ?? "";
    open = /^\x1b\[(?:0|)(?:;0)*m$/.test(final) ? "" : final;
    if (empty && withoutMarkers !== line) return undefined;
    return text.includes("\x1b[") ? `${text}\x1b[0m` : text;
  };
}

const SGR = /\x1b\[[0-9;:]*m/g;
/** Escape sequences that are not colours, and single controls but the tab. */
const OTHER_CONTROLS =
  /\x1b\[(?![0-9;:]*m)[0-?]*[ -/]*[@-~]?|\x1b[\]PX^_](?:[^\x07\x1b]*)(?:\x07|\x1b\\)?|\x1b(?!\[)[ -/]*[0-~]?|[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f]/g;

function visible(text: string): string {
  return text.replace(SGR, "").replace(OTHER_CONTROLS, "");
}
