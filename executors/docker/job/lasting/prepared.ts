import type { Notes } from "../../../../src/executor/prepare.ts";
import { missingToLast } from "../../../remote/index.ts";
import type { JobContainer } from "../../container/job-container.ts";
import { containerCommands } from "../../engine/commands.ts";
import type { EnvironmentOptions } from "../environment.ts";
import type { JobNetwork } from "../network/network.ts";
import { lookAtProcesses } from "../own-processes.ts";
import type { Scene } from "../scene.ts";
import type { RunningService } from "../services/services.ts";
import { keepEnvironment } from "./environment-file.ts";
import { handleOf } from "./handle.ts";

interface PreparedJob extends Pick<EnvironmentOptions, "shell" | "build" | "helper" | "keeps" | "imageSeconds"> {
  readonly scene: Scene;
  readonly network: JobNetwork;
  readonly services: readonly RunningService[];
}

/** Whether scripts in these containers can outlive the runner; if not, why is said in the trace. */
export function canLast(containers: readonly JobContainer[], notes: Pick<Notes, "print">): boolean {
  const lacking = containers.find(({ tools }) => missingToLast(tools).length > 0);
  if (lacking === undefined) return true;
  const missing = missingToLast(lacking.tools).join(", ");
  notes.print(`A restart of the runner ends this job: the image ${lacking.image} has no ${missing}`, "warning");
  return false;
}

/** By what the runner's next process goes on with a job whose containers are ready. */
export async function lastingParts(
  { scene, network, services, ...parts }: PreparedJob,
  signal: AbortSignal,
): Promise<Required<Pick<EnvironmentOptions, "handle" | "own">>> {
  const { engine, owner, places, slot, request } = scene;
  const { build, helper } = parts;
  const user = helper.user === undefined ? {} : { user: helper.user };
  const commands = containerCommands({ engine, container: helper.id, name: helper.name, ...user });
  const [own] = await Promise.all([
    lookAtProcesses(engine, build.id),
    keepEnvironment({ commands, tmpDir: places.tmpDir }, build.env, signal),
  ]);
  const handle = handleOf({
    ...parts,
    engine: engine.address,
    installation: owner.installation,
    slot,
    places,
    network: network.own ? { id: network.mode, name: network.name ?? "" } : null,
    networkName: network.name,
    own,
    services: request.debugServices === true ? services : [],
  });
  return { handle, own };
}
