import { SystemFailure } from "../../src/errors.ts";
import { containerCommands } from "./commands.ts";
import { createContainer, NoShellFailure } from "./container.ts";
import { jobContainer } from "./container-config.ts";
import type { Engine } from "./engine.ts";
import type { JobContainer } from "./environment.ts";
import { jobLabels, LABELS } from "./labels.ts";
import type { JobNetwork } from "./network.ts";
import { preparePlaces } from "./prepare-places.ts";
import { common, gitTrust, nameOf, type Scene } from "./scene.ts";
import { warn } from "./services.ts";
import { slotLabel } from "./slots.ts";
import { startWithTools } from "./tools-at-start.ts";
import type { JobVolumes } from "./volumes.ts";

/**
 * The container with git: in the build container's network, which costs half of joining it anew. It works as the job's user, so
 * that the checkout is that user's; only its first steps are root's.
 */
export async function startHelper(
  scene: Scene,
  network: JobNetwork,
  volumes: JobVolumes,
  build: JobContainer,
  signal: AbortSignal,
): Promise<JobContainer> {
  const { engine, settings, wanted, marks, places, notes, request, slot, helperImages } = scene;
  const choice = await helperImages.choose(
    {
      settings,
      obtain: scene.obtain,
      buildHasGit: async () => build.tools.programs.has("git"),
      notes,
    },
    signal,
  );
  const { uid, gid } = build.tools;
  const first = preparePlaces({ places, uid, gid, open: volumes.open });
  if (choice.in === "build") {
    await setUpIn(engine, build, first, signal);
    return build;
  }
  const name = `the helper container (image ${choice.image.name})`;
  const shares = network.own || network.mode === "bridge" || network.mode === "default";
  const body = jobContainer({
    ...common(scene, shares ? `container:${build.id}` : network.mode),
    image: choice.image.id,
    labels: {
      ...jobLabels(marks, "helper"),
      [LABELS.slot]: slotLabel(request.runnerId, request.job.projectId, slot),
    },
    aliases: [],
    privileged: wanted.image.privileged,
    binds: volumes.binds,
    hostname: settings.hostname ?? scene.unique,
    env: gitTrust(places.root),
    user: "0",
    entrypoint: ["sh"],
    command: [],
    extraHosts: settings.extraHosts,
  });
  const id = await createContainer(engine, name, { ...body, name: nameOf(scene, "helper") }, signal);
  const { tools } = await startWithTools(engine, { id, name, first }, notes, signal).catch((error: unknown) => {
    if (!(error instanceof NoShellFailure)) throw error;
    throw new SystemFailure(`${error.message}. helper_image in [runners.docker] must have sh and git`, {
      reason: "runner_configuration_error",
      cause: error,
    });
  });
  if (!tools.programs.has("git")) {
    const why = "without it there are no sources. helper_image in [runners.docker] must have sh and git";
    warn(notes, `The helper image ${choice.image.name} has no git: ${why}`);
  }
  const user = uid > 0 ? `${uid}:${Math.max(gid, 0)}` : undefined;
  // Git wants a home that its user may write to.
  const env = user === undefined ? [] : [`HOME=${places.tmpDir}`];
  return { id, name: "the helper container", image: choice.image.name, tools, user, env };
}

/** The build container serves as the helper, too. */
async function setUpIn(
  engine: Engine,
  build: JobContainer,
  { script, args }: ReturnType<typeof preparePlaces>,
  signal: AbortSignal,
): Promise<void> {
  const commands = containerCommands({ engine, container: build.id, name: build.name, user: "0" });
  const bytes = args.map((arg) => Buffer.from(arg).toString("latin1"));
  const process = await commands.start({ script, args: bytes }, signal);
  process.stdout.resume();
  const { code, stderr } = await process.exit;
  if (code === 0) return;
  throw new SystemFailure(`Cannot set up the builds directory in ${build.name}: ${stderr.trim().slice(-500)}`, {
    retry: true,
  });
}
