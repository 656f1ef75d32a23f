import { padToWidth, printable, textWidth } from "../../local/report/text-width.ts";

/**
 * Rows as lines with aligned columns. Cells come from files and coordinators, so characters that move the cursor are
 * removed.
 */
export function tableLines(rows: readonly (readonly string[])[]): string[] {
  const cells = rows.map((row) => row.map(printable));
  const columns = Math.max(0, ...cells.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...cells.map((row) => textWidth(row[column] ?? ""))),
  );
  return cells.map((row) =>
    row
      .map((cell, column) => padToWidth(cell, widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}

/** `7s`, `1m 3s`, `2h 5m`. */
export function elapsed(seconds: number): string {
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes}m ${seconds % 60}s` : `${Math.floor(minutes / 60)}h ${minutes % 60}m`;
}
