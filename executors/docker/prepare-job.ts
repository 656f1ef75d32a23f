import type { Writable } from "node:stream";
import { ScriptFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor.ts";
import type { ShellName } from "../../src/shell.ts";
import { all } from "../../src/time.ts";
import { startBuild } from "./build-container.ts";
import { containerCommands } from "./commands.ts";
import { createEnvironment, type JobContainer } from "./environment.ts";
import { startHelper } from "./helper-container.ts";
import { networkOf, openScene, type PrepareJobOptions } from "./scene.ts";
import { waitForServices } from "./services.ts";
import { hostEntries, startServices } from "./start-services.ts";
import { startWithTools } from "./tools-at-start.ts";
import { createVolumes } from "./volumes.ts";

/**
 * Everything that one job runs in: network, volumes, services, the container of its image and the one with git. Whatever was made
 * when this rejects carries the job's key: `destroy` finds it.
 */
export async function prepareJob(
  options: PrepareJobOptions,
  notes: Writable,
  signal: AbortSignal,
): Promise<Environment> {
  const { engine, settings, deps, request, slot } = options;
  const { expand } = request;
  const scene = await openScene(options, notes);
  const { naming, places, wanted } = scene;

  const [network, volumes, image] = await all([
    networkOf(scene, signal),
    createVolumes(engine, { ...scene, workingDirectory: deps.workingDirectory, privateVolume: true, expand }, signal),
    scene.obtain(wanted.image, signal),
  ]);
  // On a network of the operator's the build container learns its services' addresses when it is created.
  const starting = startServices(scene, network, volumes, naming.services, signal);
  starting.catch(() => {});
  const hosts = network.own ? [] : await hostEntries(engine, network, await starting, signal);
  const [build, services] = await all([startBuild(scene, network, volumes, image, hosts, signal), starting]);
  const shell = shellOf(deps.shell, build);
  const helper = await startHelper(scene, network, volumes, build, signal);
  const helperCommands = containerCommands({ engine, container: helper.id, name: helper.name, user: "0" });
  const loopback = network.mode === "host" || network.mode.startsWith("container:");
  const limitMs = network.mode === "none" ? null : settings.waitForServicesMs;
  await waitForServices(engine, { services, limitMs, helper: helperCommands, loopback, notes }, signal);

  return createEnvironment({
    engine,
    jobKey: request.jobKey,
    shell,
    build,
    helper,
    places,
    slot,
    memoryBytes: settings.limits.memoryBytes,
    killLeftovers: deps.killLeftovers,
    killGraceMs: deps.killGraceMs,
    revive: async (output, reviving) => {
      await startWithTools(engine, { id: build.id, name: build.name, first: null }, output, reviving);
    },
    destroy: options.destroy,
  });
}

/** @throws {ScriptFailure} the operator wants one that the job's image has not */
function shellOf(configured: ShellName | undefined, { tools, image }: JobContainer): ShellName {
  const found = configured ?? (tools.bash === null ? "sh" : "bash");
  if ((found === "bash" && tools.bash === null) || (found === "pwsh" && !tools.programs.has(found))) {
    throw new ScriptFailure(
      `The image ${image} has no ${found} on its PATH, and jobs of this runner are written for it (shell = "${found}"): use another image`,
    );
  }
  return found;
}
