import { connect } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Fault, type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { type ChaosKind, createChaos } from "../../src/local/coordinator/faults/chaos.ts";

let coordinator: LocalCoordinator;
beforeEach(async () => {
  coordinator = await startCoordinator({ dialect: "alloy" });
});
afterEach(() => coordinator.close());

function faults(seed: string, options: Partial<Parameters<typeof createChaos>[0]> = {}): (Fault | undefined)[] {
  const { intercept } = createChaos({ seed, rate: 0.5, ...options });
  const endpoints = ["job_request", "trace", "update"] as const;
  return endpoints.flatMap((endpoint) =>
    Array.from({ length: 300 }, (_, index) => {
      const jobId = endpoint === "job_request" ? undefined : String(index % 7);
      return intercept({ method: "POST", path: "/", endpoint, jobId, headers: {}, count: index + 1 });
    }),
  );
}

test("the same seed brings the same faults, another one others", () => {
  const kinds = (seed: string): string =>
    faults(seed)
      .map((fault) => fault?.kind ?? "-")
      .join(" ");
  expect(kinds("a")).toBe(kinds("a"));
  expect(kinds("a")).not.toBe(kinds("b"));
});

test("a job is given away and kept from its runner only where that is wanted", () => {
  const requests = (lossy: boolean): (Fault | undefined)[] => faults("c", { lossy }).slice(0, 300);
  const loses = (fault: Fault | undefined): boolean =>
    fault?.kind === "truncate" || (fault !== undefined && "handled" in fault && fault.handled === true);
  expect(requests(false).some(loses)).toBe(false);
  expect(requests(true).some(loses)).toBe(true);
});

test("every kind comes up, and so often as it is said", () => {
  const chaos = createChaos({ seed: "d", rate: 0.4 });
  let hit = 0;
  for (let count = 1; count <= 2000; count++) {
    if (chaos.intercept({ method: "PATCH", path: "/", endpoint: "trace", jobId: "1", headers: {}, count })) hit++;
  }
  expect(hit / 2000).toBeGreaterThan(0.35);
  expect(hit / 2000).toBeLessThan(0.45);
  expect(chaos.counts.size).toBe(16 satisfies number);
  expect([...chaos.counts.keys()]).toContain("endless_headers" satisfies ChaosKind);
});

test.each(["headers", "body"] as const)("endless %s end with the caller's patience", async (part) => {
  coordinator.intercept = () => ({ kind: "endless", part });
  const { port } = new URL(coordinator.url);
  const socket = connect(Number(port), "127.0.0.1");
  let received = 0;
  socket
    .on("error", () => {})
    .on("data", (chunk: Buffer) => {
      received += chunk.length;
      if (received > 1_000_000) socket.destroy();
    });
  socket.write("POST /api/v4/jobs/request HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
  await coordinator.waitForRequest(({ endedAt }) => endedAt !== undefined);
  expect(received).toBeGreaterThan(1_000_000);
});
