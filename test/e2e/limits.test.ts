import { expect, test } from "vitest";
import { footprint } from "../support/memory.ts";
import { openSite } from "../support/site.ts";

/** How much memory a job may take beyond its own needs. */
const SPARE_MB = 64;

test("a job of a megabyte whose variables refer to a large one is refused, and costs no more", async () => {
  const site = await openSite({ dialect: "alloy" });
  try {
    const before = footprint(site.runner.pid).residentMb;
    const big = { key: "BIG", value: "x".repeat(100_000) };
    const refer = Array.from({ length: 8000 }, (_, i) => ({ key: `REFERS_${i}`, value: "$BIG" }));
    const job = site.coordinator.enqueue({ script: ["echo never"], variables: [big, ...refer] });
    expect(await job.reported({ timeoutMs: 60_000 })).toMatchObject({ state: "failed" });
    expect(job.trace).toMatch(
      /larger than 6291456 bytes together, which no environment holds; the one too many is "REFERS_\d+"/,
    );
    expect(footprint(site.runner.pid).peakMb - before).toBeLessThan(2 * SPARE_MB);
  } finally {
    await site.close();
  }
});

test("a GitLab that answers 416 to each piece of a trace gets the state, and is told what is missing", async () => {
  const site = await openSite({ dialect: "gitlab" });
  try {
    const pieces: string[] = [];
    site.coordinator.intercept = ({ method, headers }) => {
      if (method !== "PATCH") return undefined;
      pieces.push(headers["content-range"] ?? "");
      return { kind: "status", status: 416, headers: { range: "0-99999999" } };
    };
    const job = site.coordinator.enqueue({ script: ["echo hello"] });
    expect(await job.reported({ timeoutMs: 60_000 })).toMatchObject({ state: "success" });
    expect(new Set(pieces.map((range) => range.split("-")[0]))).toEqual(new Set(["0"]));
    expect(site.runner.stderr()).toMatch(/it has 0 of \d+ bytes, and the job's state goes without the rest/);
  } finally {
    await site.close();
  }
});
