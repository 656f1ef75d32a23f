import type { Argv } from "../../../../src/shell.ts";
import { pause } from "../../../../src/time.ts";
import type { RemoteCommands, RemotePty } from "../../../remote/index.ts";
import { podCommands } from "../../api/commands.ts";
import { warningsAbout } from "../../api/pods.ts";
import { openPty } from "../../api/pty.ts";
import { ApiFailure } from "../../api/status.ts";
import type { Cluster } from "../cluster.ts";
import { evictionOf, isFinal, lossOf, OutOfMemory } from "../failures.ts";
import type { StartedPod } from "../start-pod.ts";

const LONGEST_LOOK_MS = 60_000;
const AGAIN_MS = 2000;
/** The reason why containers ended may appear in the pod this long after their end. */
const LATE_REASON_MS = 5000;
const REASON_PAUSE_MS = 500;

export interface ContainerPlace {
  readonly cluster: Pick<Cluster, "api">;
  readonly namespace: string;
  readonly pod: Pick<StartedPod, "name" | "uid" | "view">;
}

/** A container of a pod, as programs are started in it. */
export interface OpenContainer {
  /** Why nothing more can run in it, or `null`. */
  lost(signal: AbortSignal): Promise<Error | null>;
  /** Resolves with the reason once nothing more can run in it. */
  whenLost(signal: AbortSignal): Promise<Error>;
  /** @param env `NAME=value` beyond the container's own */
  commands(env?: readonly string[]): RemoteCommands;
  pty(env: readonly string[], argv: Argv, signal: AbortSignal): Promise<RemotePty>;
}

export function openContainer(
  { cluster, namespace, pod }: ContainerPlace,
  name: string,
  memoryLimit: string,
): OpenContainer {
  const facts = { name: pod.name, uid: pod.uid, container: name, memoryLimit };
  let until: number | undefined;
  const lost = async (asking: AbortSignal): Promise<Error | null> => {
    try {
      for (;;) {
        const seen = await pod.view.look(asking);
        const loss = lossOf(seen, facts);
        if (loss === null || seen === null || loss instanceof OutOfMemory || isFinal(seen)) return loss;
        const told = evictionOf(await warningsAbout(cluster.api, seen, asking));
        if (told !== null) return told;
        until ??= performance.now() + LATE_REASON_MS;
        if (performance.now() > until) return loss;
        await pause(REASON_PAUSE_MS, asking);
      }
    } catch (error) {
      asking.throwIfAborted();
      // If the API server does not answer, that says nothing about the pod.
      if (error instanceof ApiFailure) return null;
      throw error;
    }
  };
  const whenLost = async (asking: AbortSignal): Promise<Error> => {
    for (;;) {
      const seen = pod.view.pod;
      // What a watch tells may be old: it is asked for once more.
      const loss = seen !== undefined && lossOf(seen, facts) !== null ? await lost(asking) : null;
      if (loss !== null) return loss;
      await pod.view.changed(LONGEST_LOOK_MS, asking).catch(() => pause(AGAIN_MS, asking));
    }
  };
  const place = { api: cluster.api, namespace, pod: pod.name, container: name, lost };
  return {
    lost,
    whenLost,
    commands: (env = []) => podCommands(env.length === 0 ? place : { ...place, env }),
    pty: (env, argv, signal) => openPty({ ...place, env }, argv, signal),
  };
}
