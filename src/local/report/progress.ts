import type { Writable } from "node:stream";
import { cutToWidth, padToWidth, textWidth } from "./text-width.ts";

/** Lines that scroll, and below them one line for each running job that is kept up to date. */
export interface Progress {
  /** A line that stays. */
  line(text: string): void;
  /** A job runs from now on. */
  start(key: object, name: string): void;
  /** The last line of its output. */
  say(key: object, text: string): void;
  end(key: object): void;
  /** Take the block away and stop. What was given is written. */
  close(): void;
}

export interface ProgressOptions {
  readonly colors: boolean;
  /** Width of the terminal, asked for at each drawing. */
  readonly columns: () => number;
  readonly rows: () => number;
}

const NAME_WIDTH_MAX = 24;
const SPINNER = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const TICK_MS = 250;

/** For a terminal: everything that is written goes through here, as the block is taken away and drawn anew around it. */
export function createProgress(output: Writable, { colors, columns, rows }: ProgressOptions): Progress {
  const jobs = new Map<object, { readonly name: string; readonly since: number; text: string }>();
  let drawn: string[] = [];
  let pending = "";
  let queued = false;
  let closed = false;
  let ticks = 0;
  let timer: NodeJS.Timeout | undefined;

  const block = (): string[] => {
    const wide = Math.max(20, columns()) - 1;
    const room = Math.max(1, rows() - 4);
    const width = Math.min(
      Math.max(8, Math.floor(wide / 3)),
      NAME_WIDTH_MAX,
      Math.max(0, ...[...jobs.values()].map(({ name }) => textWidth(name))),
    );
    const lines = [...jobs.values()].map(({ name, since, text }) => {
      const head = `${SPINNER[ticks % SPINNER.length]} ${padToWidth(name, width)} ${clock(performance.now() - since)}`;
      return cutToWidth(`${head}  ${text}`.trimEnd(), wide);
    });
    return lines.length <= room ? lines : [...lines.slice(0, room), `  and ${lines.length - room} more`];
  };
  const erase = (): string => {
    const wide = Math.max(1, columns());
    // A terminal that became narrower has wrapped them.
    const height = drawn.reduce((sum, line) => sum + Math.max(1, Math.ceil(textWidth(line) / wide)), 0);
    return height === 0 ? "" : `\r\x1b[${height}A\x1b[J`;
  };
  const draw = (): void => {
    queued = false;
    const before = erase();
    drawn = closed ? [] : block();
    const shown = drawn.map((line) => (colors ? `\x1b[2m${line}\x1b[0m\n` : `${line}\n`)).join("");
    const text = `${before}${pending}${shown}`;
    pending = "";
    if (text !== "" && !output.destroyed && !output.writableEnded) output.write(text);
  };
  const soon = (): void => {
    if (queued) return;
    queued = true;
    // All lines of one piece of output in one write.
    queueMicrotask(draw);
  };
  const tick = (): void => {
    ticks++;
    draw();
  };

  return {
    line(text) {
      pending += `${text}\n`;
      soon();
    },
    start(key, name) {
      jobs.set(key, { name, since: performance.now(), text: "" });
      timer ??= setInterval(tick, TICK_MS).unref();
      soon();
    },
    say(key, text) {
      const job = jobs.get(key);
      if (job !== undefined) job.text = text.trim();
    },
    end(key) {
      if (!jobs.delete(key)) return;
      if (jobs.size === 0) {
        clearInterval(timer);
        timer = undefined;
      }
      soon();
    },
    close() {
      if (closed) return;
      closed = true;
      clearInterval(timer);
      jobs.clear();
      draw();
    },
  };
}

/** `0:07`, `12:34`, `1:02:03`. */
function clock(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const two = (value: number): string => String(value).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours === 0 ? `${minutes}:${two(seconds % 60)}` : `${hours}:${two(minutes)}:${two(seconds % 60)}`;
}
