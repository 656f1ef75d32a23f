import type { JobLine, RunnerLine, StatusAnswer } from "../../control/protocol.ts";
import { doingOf, durableOf, elapsed, memoryOf, outcomeOf, processorOf } from "../../control/words.ts";
import { cutToWidth, padToWidth, printable, textWidth } from "../../local/report/text-width.ts";

/** The content of `top`'s screen, as data. */
export interface Screen {
  /** `null`: the runner has not answered yet. */
  readonly status: StatusAnswer | null;
  /** Why there is no newer answer. */
  readonly problem: string | null;
  /** The chosen row: `keyOf` of a runner or a job. */
  readonly chosen: string | null;
  /** A job whose trace fills the screen, with its last lines. */
  readonly followed: { readonly title: string; readonly lines: readonly string[] } | null;
  /** A question that is answered with y or n. */
  readonly question: string | null;
  /** The result of the last key. */
  readonly note: string;
}

export interface ScreenSize {
  readonly columns: number;
  readonly rows: number;
  readonly colors: boolean;
}

/** A row that can be chosen. */
export type Row = { readonly runner: RunnerLine } | { readonly job: JobLine };

export function rowsOf(status: StatusAnswer | null): Row[] {
  if (status === null) return [];
  return [...status.runners.map((runner) => ({ runner })), ...status.jobs.map((job) => ({ job }))];
}

export function keyOf(row: Row): string {
  return "job" in row ? `job ${row.job.runnerId} ${row.job.id}` : `runner ${row.runner.id} ${row.runner.name}`;
}

const LIST_KEYS = "↑↓ choose  f follow  c cancel  p pause/resume  d drain  q quit";
const FOLLOW_KEYS = "q back  c cancel";

/** All lines of the terminal, each as wide as it may be. */
export function drawScreen(screen: Screen, size: ScreenSize): string[] {
  const { rows, columns } = size;
  const foot = footOf(screen, size);
  const room = Math.max(0, rows - 2 - foot.length);
  const head = style("1", headOf(screen), size);
  const middle = screen.followed === null ? listOf(screen, size, room) : traceOf(screen.followed.lines, columns, room);
  const filled = [...middle, ...Array.from({ length: Math.max(0, room - middle.length) }, () => "")];
  return [head, "", ...filled, ...foot].slice(0, rows);
}

function headOf({ status, followed, problem }: Screen): string {
  if (followed !== null) return printable(followed.title);
  if (status === null) return problem === null ? "alloy-runner: asking the runner …" : "alloy-runner";
  const { version, state, jobs, concurrent, pid } = status;
  const short = version.split(" ", 1)[0] ?? "";
  return `alloy-runner ${printable(short)}  ${state}  process ${pid}  ${jobs.length} in progress, concurrent ${concurrent}`;
}

function footOf(screen: Screen, size: ScreenSize): string[] {
  const { problem, question, note, followed } = screen;
  const said = question === null ? (problem ?? note) : `${question} (y/n)`;
  const keys = style("2", followed === null ? LIST_KEYS : FOLLOW_KEYS, size);
  if (said === "" && followed === null) return [...wholeOf(screen, size), keys];
  const line = cutToWidth(printable(said), size.columns);
  return [question === null && problem === null ? line : style("1", line, size), keys];
}

/** What the chosen row is about, in whole, as its last column is often cut: a line, or a few where there is room. */
function wholeOf({ status, chosen }: Screen, { columns, rows }: ScreenSize): string[] {
  const row = rowsOf(status).find((one) => keyOf(one) === chosen);
  if (row === undefined) return [""];
  const text = "job" in row ? `${row.job.id} ${row.job.title}` : `${row.runner.name}: ${row.runner.reason}`;
  const most = rows < ROOMY ? 1 : 3;
  const lines: string[] = [];
  let rest = printable(text);
  while (rest !== "" && lines.length < most) {
    const last = lines.length === most - 1;
    const line =
      textWidth(rest) <= columns || last ? cutToWidth(rest, columns) : cutToWidth(rest, columns).slice(0, -1);
    lines.push(line);
    rest = textWidth(rest) <= columns ? "" : rest.slice(line.length);
  }
  return lines;
}

function traceOf(lines: readonly string[], columns: number, room: number): string[] {
  return lines.slice(-room).map((line) => cutToWidth(line, columns));
}

function listOf(screen: Screen, size: ScreenSize, room: number): string[] {
  const { status } = screen;
  if (status === null) return [];
  const chosen = (row: Row): boolean => keyOf(row) === screen.chosen;
  const runners = section(["RUNNER", "EXECUTOR", "JOBS", "WHY NO MORE"], size, status.runners, (runner) => ({
    cells: [runner.name, runner.executor, jobsOf(runner), runner.reason],
    chosen: chosen({ runner }),
  }));
  // A column that would be empty is left to the last line.
  const uses = [
    { head: "CPU", of: processorOf },
    { head: "MEM", of: memoryOf },
    { head: "DURABLE", of: durableOf },
  ].filter(({ of }) => status.jobs.some((job) => of(job) !== ""));
  const heads = ["JOB", "RUNNER", "DOES", "FOR", ...uses.map(({ head }) => head), "LAST LINE"];
  const jobs = section(heads, size, status.jobs, (job) => ({
    cells: [
      job.id,
      job.runner,
      doingOf(job),
      elapsed(job.elapsedSeconds),
      ...uses.map(({ of }) => of(job)),
      job.lastLine ?? job.title,
    ],
    chosen: chosen({ job }),
  }));
  const ended = section(["ENDED", "RUNNER", "OUTCOME", "TOOK", "TITLE"], size, status.finished, (job) => ({
    cells: [job.id, job.runner, outcomeOf(job), elapsed(job.elapsedSeconds), job.title],
    chosen: false,
  }));
  return fitted([runners, jobs, ended], room);
}

function jobsOf({ jobs, limit }: RunnerLine): string {
  return limit === null ? String(jobs) : `${jobs}/${limit}`;
}

interface Section {
  readonly head: string;
  readonly rows: readonly { readonly text: string; readonly chosen: boolean }[];
}

/** Widest share of a column: the columns beside it matter more to the reader. */
const WIDEST = 30;
/** Names of entries may take a quarter of the screen, but for a narrow one. */
const LEAST_NAME = 12;
/** Fewer lines are needed for what is listed. */
const ROOMY = 20;

function section<T>(
  heads: readonly string[],
  size: ScreenSize,
  items: readonly T[],
  rowOf: (item: T) => { cells: readonly string[]; chosen: boolean },
): Section {
  const rows = items.map(rowOf);
  const most = (head: string): number =>
    head === "RUNNER" ? Math.min(WIDEST, Math.max(LEAST_NAME, Math.floor(size.columns / 4))) : WIDEST;
  const widths = heads.map((head, column) =>
    Math.min(
      most(head),
      Math.max(textWidth(head), ...rows.map(({ cells }) => textWidth(printable(cells[column] ?? "")))),
    ),
  );
  const line = (cells: readonly string[], mark: string): string => {
    const padded = cells.map((cell, column) =>
      column === cells.length - 1 ? printable(cell) : padToWidth(printable(cell), widths[column] ?? 0),
    );
    return cutToWidth(mark + padded.join("  "), size.columns);
  };
  return {
    head: style("2", line(heads, "  "), size),
    rows: rows.map(({ cells, chosen }) => {
      const text = line(cells, chosen ? "> " : "  ");
      return { text: chosen ? style("7", padToWidth(text, size.columns), size) : text, chosen };
    }),
  };
}

/** The sections share the lines; of one that has too many, those around the chosen row are shown, and how many are not. */
function fitted(sections: readonly Section[], room: number): string[] {
  const shown = sections.filter(({ rows }) => rows.length > 0);
  const lines: string[] = [];
  let left = room;
  for (const [index, { head, rows }] of shown.entries()) {
    const gap = index < shown.length - 1 ? 1 : 0;
    // Each of those that follow has its head, and two lines where it needs them.
    const following = shown.slice(index + 1).reduce((sum, after) => sum + 1 + Math.min(2, after.rows.length), 0);
    const gaps = Math.max(0, shown.length - index - 1);
    const most = Math.max(1, left - 1 - gaps - following);
    if (left < 2) break;
    const part = window(rows, Math.min(most, left - 1));
    lines.push(head, ...part, ...(gap === 1 ? [""] : []));
    left -= 1 + part.length + gap;
  }
  return lines.slice(0, room);
}

function window(rows: Section["rows"], most: number): string[] {
  if (rows.length <= most) return rows.map(({ text }) => text);
  const kept = Math.max(1, most - 1);
  const at = rows.findIndex(({ chosen }) => chosen);
  const first = Math.max(0, Math.min(at - Math.floor(kept / 2), rows.length - kept));
  const more = `  … ${rows.length - kept} more`;
  return [...rows.slice(first, first + kept).map(({ text }) => text), ...(most > 1 ? [more] : [])];
}

function style(code: string, text: string, { colors, columns }: ScreenSize): string {
  const cut = cutToWidth(text, columns);
  return colors ? `\x1b[${code}m${cut}\x1b[0m` : cut;
}
