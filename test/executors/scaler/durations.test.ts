import { expect, test } from "vitest";
import type { Instance, InstanceState } from "../../../executors/scaler/decide/fleet.ts";
import { createDurations } from "../../../executors/scaler/pool/durations.ts";

const of = (states: Readonly<Record<string, InstanceState>>): Instance[] =>
  Object.entries(states).map(([id, state]) => ({ id, state, uses: 0, jobs: 0, asking: 0, idleSince: 0 }));

test("creating counts from the question, connecting from running, removing from being told, each once", () => {
  let now = 0;
  const seen: (readonly [string, number])[] = [];
  const durations = createDurations(
    {
      created: (ms) => seen.push(["created", ms]),
      connected: (ms) => seen.push(["connected", ms]),
      gone: (ms) => seen.push(["gone", ms]),
    },
    () => now,
  );
  const look = (at: number, states: Readonly<Record<string, InstanceState>>): void => {
    now = at;
    durations.look(of(states));
    durations.look(of(states));
  };
  // From before: nobody knows when it was asked for.
  look(0, { old: "checking" });
  look(300, { old: "ready" });
  durations.asked(2, 1000);
  look(1500, { old: "ready", a: "creating" });
  look(3000, { old: "removing", a: "checking", b: "checking" });
  look(3200, { old: "removing", a: "ready", b: "checking" });
  look(4000, { a: "ready", b: "draining" });
  // Gone by itself is not removed.
  look(5000, { b: "removing" });
  look(9000, {});
  expect(seen).toEqual([
    ["connected", 300],
    ["created", 2000],
    ["created", 2000],
    ["connected", 200],
    ["gone", 1000],
    ["gone", 4000],
  ]);
});
