import type { ExecutorMeter } from "../../../src/executor/deps.ts";
import type { PoolEvents } from "./contract.ts";

const MADE = [1, 5, 15, 30, 60, 120, 300, 600, 1800];
const CONNECTED = [0.05, 0.25, 1, 5, 15, 60, 300, 600];
const GONE = [1, 5, 15, 60, 300, 900, 3600];
const WAITED = [0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 120, 300, 900];

/** What every pool has to tell. `word` is what its instances are called: `machine`. */
export function poolMeters(meter: ExecutorMeter, word: string): Required<Omit<PoolEvents, "removed">> {
  const inSeconds = (observe: (seconds: number) => void) => (ms: number) => observe(ms / 1000);
  const timed = (what: string, help: string, buckets: readonly number[]) =>
    inSeconds(meter.histogram(`${word}_${what}_seconds`, help, buckets));
  return {
    created: timed("creation", `How long it takes from asking for a ${word} until it runs.`, MADE),
    connected: timed("connection", `How long a ${word} that runs takes until jobs could be there.`, CONNECTED),
    gone: timed("removal", `How long it takes to remove a ${word}.`, GONE),
    used: timed("wait", `How long jobs waited for their ${word}.`, WAITED),
  };
}
