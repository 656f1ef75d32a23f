import { z } from "zod";
import { describeError } from "../../../src/errors.ts";
import type { Recovered } from "../../../src/executor/executor.ts";
import type { Note } from "../../../src/executor/prepare.ts";
import type { Cluster } from "../job/cluster.ts";
import type { KubernetesSettings } from "../settings/settings.ts";
import { cleanUpJob, within } from "./clean-up.ts";
import { isProven } from "./ownership.ts";
import type { Sweeper } from "./sweep.ts";

/** What a dead runner's job has left behind, and where. */
const noteSchema = z.object({
  kind: z.literal("kubernetes-job"),
  server: z.string(),
  namespace: z.string(),
  /** In whose name the job was; older notes do not say it. */
  installation: z.string().optional(),
});

/** All jobs that died with the runner are reported within a minute; a node that does not answer must not hold that up. */
const RECOVERY_WAIT_MS = 20_000;

export interface RecoverOptions {
  readonly cluster: (signal: AbortSignal) => Promise<Cluster>;
  readonly settings: KubernetesSettings;
  readonly sweeper: Sweeper;
}

/** Removes what the notes of one dead job name, and nothing else. */
export async function recoverJob(
  { cluster, settings, sweeper }: RecoverOptions,
  jobKey: string,
  notes: readonly Note[],
  signal: AbortSignal,
): Promise<Recovered> {
  const done: string[] = [];
  const left: string[] = [];
  const places = new Map<string, z.output<typeof noteSchema>>();
  for (const note of notes) {
    const known = noteSchema.safeParse(note);
    if (known.success) places.set(JSON.stringify(known.data), known.data);
  }
  for (const { server, namespace, installation } of places.values()) {
    try {
      const found = await cluster(signal);
      if (found.server !== server) {
        left.push(`could not look after its pod in ${server}, because the entry names ${found.server} now`);
        continue;
      }
      const { api } = found;
      const { owner, alone } = await found.ownership(namespace, signal);
      if (alone && installation !== undefined && isProven(installation) && installation !== owner.installation) {
        left.push(
          `left its pod in the namespace "${namespace}" to another runner, which works with a copy of this one's state directory`,
        );
        continue;
      }
      const graceSeconds = settings.cleanupGraceSeconds;
      const { pods, staying, secrets } = await within(settings.cleanupLimitMs, signal, (limit) =>
        cleanUpJob({ api, namespace, jobKey, graceSeconds, waitMs: RECOVERY_WAIT_MS }, limit),
      );
      if (staying > 0) {
        left.push(
          `told ${pods === 1 ? "its pod" : `its ${pods} pods`} in the namespace "${namespace}" to end, which takes longer`,
        );
      } else if (pods > 0)
        done.push(`removed ${pods === 1 ? "1 pod" : `${pods} pods`} and what ran in ${pods === 1 ? "it" : "them"}`);
      else if (secrets > 0) done.push("removed its logins");
      // The API may still carry out a request that was under way when the runner died.
      sweeper.suspect({ api, namespace }, jobKey);
    } catch (error) {
      signal.throwIfAborted();
      left.push(`could not remove its pod in the namespace "${namespace}" of ${server}: ${describeError(error)}`);
    }
  }
  return { done, left };
}
