import type { Recovered } from "../../../src/executor/executor.ts";
import type { Engine } from "../engine/engine.ts";
import type { Owner } from "../engine/labels.ts";
import { cleanUpJob, removeAbandonedNetworks } from "./clean-up.ts";

/** Ends and removes what a dead job has at an engine. @throws {SystemFailure} something of it could not be removed */
export async function recoverJob(
  engine: Engine,
  owner: Owner,
  jobKey: string,
  signal: AbortSignal,
): Promise<Recovered> {
  const { processes, containers, networks, volumes } = await cleanUpJob(engine, jobKey, { counting: true }, signal);
  // Its network belonged to the dead process, as networks go from job to job.
  const emptied = networks + (await removeAbandonedNetworks(engine, owner, signal));
  const done = [
    ...(processes > 0 ? [`ended ${counted(processes, "process", "processes")}`] : []),
    ...(containers > 0 ? [`removed ${counted(containers, "container", "containers")}`] : []),
    ...(emptied > 0 ? [`removed ${counted(emptied, "network", "networks")}`] : []),
    ...(volumes > 0 ? [`removed ${counted(volumes, "volume", "volumes")}`] : []),
  ];
  return { done, left: [] };
}

function counted(count: number, one: string, more: string): string {
  return `${count} ${count === 1 ? one : more}`;
}
