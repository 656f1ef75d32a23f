import type { PipelineJob } from "../pipeline/pipeline-job.ts";
import { cutToWidth, padToWidth, printable, textWidth } from "./text-width.ts";

const STATE_COLORS: Readonly<Record<PipelineJob["state"], number>> = {
  success: 32,
  failed: 31,
  canceled: 33,
  skipped: 90,
  manual: 90,
  "not started here": 33,
};

const NAME_WIDTH_MIN = 8;

/**
 * A table of what became of the jobs, and a blank line before it.
 * @param columns width of the terminal: long names are cut for it; elsewhere nothing is cut
 */
export function summaryLines(
  jobs: readonly PipelineJob[],
  colors: boolean,
  columns: number = Number.POSITIVE_INFINITY,
): string[] {
  const longest = Math.max(1, ...jobs.map((job) => textWidth(printable(job.name))));
  // The other columns with their gaps rarely take more.
  const nameWidth = Math.min(longest, Math.max(NAME_WIDTH_MIN, columns - 45));
  const rows = jobs.map((job) => [
    cutToWidth(printable(job.name), nameWidth),
    printable(job.stage),
    job.state,
    duration(job.durationMs),
    remark(job),
  ]);
  const head = ["job", "stage", "state", "time", jobs.some(({ state }) => state === "failed") ? "exit" : ""];
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => textWidth(row[column] ?? ""))),
  );
  const paint = (text: string, code: number): string => (colors ? `\x1b[${code}m${text}\x1b[0m` : text);
  const layOut = (cells: readonly string[], code: (column: number) => number | undefined): string =>
    cells
      .map((cell, column) => {
        const width = widths[column] ?? 0;
        const text = column === 3 ? cell.padStart(width) : padToWidth(cell, width);
        const color = cell === "" ? undefined : code(column);
        return color === undefined ? text : paint(text, color);
      })
      .join("  ")
      .trimEnd();
  return [
    "",
    layOut(head, () => 1),
    ...rows.map((row, index) => {
      const job = jobs[index];
      return layOut(row, (column) => (column === 2 && job !== undefined ? stateColor(job) : undefined));
    }),
  ];
}

function stateColor(job: PipelineJob): number {
  return job.state === "failed" && job.allowFailure ? 33 : STATE_COLORS[job.state];
}

function remark({ state, exitCode, failureReason, allowFailure, coverage }: PipelineJob): string {
  if (state === "manual") return "waits for somebody to start it";
  const covered = coverage === undefined ? "" : `coverage ${coverage}%`;
  if (state !== "failed") return covered;
  const why = exitCode !== undefined ? String(exitCode) : (failureReason ?? "").replaceAll("_", " ");
  return [why, allowFailure ? "(allowed to fail)" : "", covered].filter((part) => part !== "").join(" ");
}

function duration(ms: number | undefined): string {
  if (ms === undefined) return "";
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  const [minutes, rest] = [Math.floor(seconds / 60), seconds % 60];
  return minutes < 60 ? `${minutes} min ${rest} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
