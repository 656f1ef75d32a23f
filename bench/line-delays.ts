import type { LocalCoordinator } from "../src/local/coordinator/coordinator.ts";
import { msToSuccess, type SceneOptions } from "./scene.ts";

/**
 * AlloyCI leaves the pace of the trace to the runner; GitLab asks for 3 s between two pieces, and that would be all there is to
 * see.
 */
export const promptScene = {
  dialect: "alloy",
  switches: { traceMarker: "printed-at " },
} as const satisfies Partial<SceneOptions>;

/** Seconds from printing a line to its arrival at the coordinator of a `promptScene`; ten lines a second, as a build prints them. */
export async function lineDelays(coordinator: LocalCoordinator): Promise<number[]> {
  const line = 'i=0; while [ $i -lt 100 ]; do echo "printed-at $(date +%s.%N)"; sleep 0.1; i=$((i+1)); done';
  const job = coordinator.enqueue({ script: [line] });
  await msToSuccess(job, 300_000);
  return job.markers.flatMap(({ text, at }) => {
    const printed = Number(/printed-at (\d+\.\d+)/.exec(text)?.[1]);
    return Number.isNaN(printed) ? [] : [at / 1000 - printed];
  });
}
