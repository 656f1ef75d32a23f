import { expect, test } from "vitest";
import { drawScreen, keyOf, rowsOf, type Screen } from "../../src/commands/top/screen.ts";
import type { StatusAnswer } from "../../src/control/protocol.ts";
import { textWidth } from "../../src/local/report/text-width.ts";

const REASON = `no job could run: the Kubernetes API at ${"https://far.example/".repeat(4)} cannot be reached: refused`;
const NAMES = ["one", "a name of an entry that is as long as somebody could think of", "ランナー日本語の名前の長い"];
const job = (id: string): StatusAnswer["jobs"][number] => ({
  id,
  title: `acme/widget: job ${id}`,
  runner: NAMES[1] ?? "",
  runnerId: "aaaa1111",
  state: "running",
  stage: "build_script",
  receivedAt: "2026-01-02T03:04:05.000Z",
  since: "2026-01-02T03:04:05.000Z",
  elapsedSeconds: 7,
  traceBytes: 0,
  stages: [],
});
const status: StatusAnswer = {
  version: "2.0.0 (1a2b3c4d)",
  pid: 7,
  config: "/etc/alloy-runner/config.toml",
  startedAt: "2026-01-02T03:04:05.000Z",
  state: "running",
  concurrent: 9,
  runners: NAMES.map((name) => ({
    name,
    id: name,
    executor: "kubernetes",
    url: "https://ci.example",
    limit: null,
    jobs: 0,
    state: "place",
    reason: REASON,
  })),
  jobs: ["1", "2", "3", "4", "5", "6", "7", "8"].map(job),
  finished: ["20", "21", "22", "23"].map((id) => ({ ...job(id), state: "ended" })),
};
const draw = (chosen: number, columns: number, rows: number, more: Partial<Screen> = {}): string[] => {
  const row = rowsOf(status)[chosen];
  const screen = { status, problem: null, followed: null, question: null, note: "", ...more };
  return drawScreen({ ...screen, chosen: row === undefined ? null : keyOf(row) }, { columns, rows, colors: false });
};

test.each([
  [80, 24],
  [60, 12],
  [200, 50],
  [20, 5],
])("a screen of %i × %i is filled and no line is wider", (columns, rows) => {
  for (const chosen of [0, 2, 5, 10]) {
    const lines = draw(chosen, columns, rows);
    expect(lines).toHaveLength(rows);
    expect(Math.max(...lines.map(textWidth))).toBeLessThanOrEqual(columns);
    expect(lines.at(-1)).toMatch(/^↑↓/);
  }
});

test("long names leave room to why an entry is idle, of which the chosen row shows all", () => {
  const lines = draw(2, 80, 24);
  const row = lines.find((line) => line.startsWith("> ")) ?? "";
  expect(row).toContain("no job could run: ");
  expect(lines.slice(-4, -1).join("")).toBe(`${NAMES[2]}: ${REASON}`);
  expect(draw(1, 60, 12).at(-2)).toMatch(/^a name of an entry .*…$/);
  // What the last key did comes first, until another row is chosen.
  expect(draw(2, 80, 24, { note: "paused" }).at(-2)).toBe("paused");
});

test("the lines are used: jobs in progress come before those that ended", () => {
  const lines = draw(0, 80, 20, { note: "said" });
  expect(lines.slice(0, -2).filter((line) => line === "")).toHaveLength(3);
  expect(lines.filter((line) => / build_script /.test(line)).length).toBe(5);
  expect(lines.filter((line) => line.includes("more"))).toEqual(["  … 3 more", "  … 3 more"]);
});
