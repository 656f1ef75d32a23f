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
