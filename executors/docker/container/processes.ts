import { z } from "zod";
import type { Engine } from "../engine/engine.ts";

const topSchema = z.object({ Titles: z.array(z.string()), Processes: z.array(z.array(z.string())).nullish() });

/**
 * What Podman knows by itself, without running the image's `ps`, as it does for anything else. Docker runs the host's.
 */
const COLUMNS = { podman: "hpid,state,comm", docker: "-eo pid,state,comm" } as const;

/**
 * The processes of a container as they are seen from outside, by their numbers there. Nothing of the image is run.
 * @throws {SystemFailure} the engine cannot say
 */
export async function processesOf(engine: Engine, id: string, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const answer = await engine.call(
    "list the processes of a container",
    (docker, abortSignal) =>
      docker.getContainer(id).top({ ps_args: engine.podman ? COLUMNS.podman : COLUMNS.docker, abortSignal }),
    signal,
  );
  const { Processes } = topSchema.parse(answer);
  // A zombie has ended, and waits for somebody to hear of it.
  return new Set((Processes ?? []).flatMap(([pid = "", state = ""]) => (pid === "" || state === "Z" ? [] : [pid])));
}
