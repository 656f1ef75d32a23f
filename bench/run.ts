import { measures } from "./figures.ts";
import type { Figure } from "./scene.ts";

const wanted = process.argv.slice(2);
if (wanted.includes("--help") || wanted.some((name) => !(name in measures))) {
  console.log(
    `Use: npm run bench [-- NAME ...]\nMeasures the built runner against the small coordinator; names: ${Object.keys(measures).join(", ")}`,
  );
  process.exit(wanted.includes("--help") ? 0 : 1);
}

const rows: Figure[] = [];
for (const [name, measure] of Object.entries(measures)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  process.stderr.write(`${name} …\n`);
  try {
    rows.push(...(await measure()));
  } catch (error) {
    process.stderr.write(`${name} could not be measured: ${error instanceof Error ? error.stack : error}\n`);
    process.exitCode = 1;
  }
}

const shown = (value: number): string =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
const table = rows.map(({ name, value, unit, target, bound }) => {
  const met = bound === "at most" ? value <= target : value >= target;
  return [
    name,
    `${shown(value)} ${unit}`,
    `${bound === "at most" ? "≤" : "≥"} ${target} ${unit}`,
    met ? "reached" : "MISSED",
  ];
});
const lines = [["figure", "measured", "target", ""], ...table];
const widths = [0, 1, 2].map((column) => Math.max(...lines.map((line) => (line[column] ?? "").length)));
for (const line of lines)
  console.log(
    line
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
