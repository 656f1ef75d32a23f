import { createContainer, explainNoShell, NoShellFailure } from "./container.ts";
import { jobContainer } from "./container-config.ts";
import type { JobContainer } from "./environment.ts";
import type { ObtainedImage } from "./image.ts";
import { jobLabels } from "./labels.ts";
import type { JobNetwork } from "./network.ts";
import { removeContainer } from "./remove.ts";
import { common, gitTrust, nameOf, type Scene } from "./scene.ts";
import { warn } from "./services.ts";
import { addedVariables, startWithTools } from "./tools-at-start.ts";
import type { JobVolumes } from "./volumes.ts";

/** The container of the job's image, with a shell that waits for scripts. */
export async function startBuild(
  scene: Scene,
  network: JobNetwork,
  volumes: JobVolumes,
  image: ObtainedImage,
  hosts: readonly string[],
  signal: AbortSignal,
): Promise<JobContainer> {
  const { engine, settings, wanted, marks, places, notes } = scene;
  const { entrypoint } = wanted.image;
  const name = `the build container (image ${image.name})`;
  const env = gitTrust(places.root);
  const attempt = async (withEntrypoint: boolean): Promise<JobContainer> => {
    const body = jobContainer({
      ...common(scene, network.mode),
      image: image.id,
      labels: jobLabels(marks, "build"),
      aliases: network.own ? ["build"] : [],
      privileged: wanted.image.privileged,
      binds: volumes.binds,
      hostname: settings.hostname ?? scene.unique,
      env,
      user: wanted.image.user,
      entrypoint: withEntrypoint ? entrypoint : ["sh"],
      command: withEntrypoint ? ["sh"] : [],
      extraHosts: [...settings.extraHosts, ...hosts],
    });
    const id = await createContainer(engine, name, { ...body, name: nameOf(scene, "build") }, signal);
    try {
      const { tools, environment } = await startWithTools(engine, { id, name, first: null }, notes, signal);
      if (!withEntrypoint)
        return { id, name: "the build container", image: image.name, tools, user: undefined, env: [] };
      // Scripts see what the ENTRYPOINT set up, and run as whom it chose.
      const dropped = tools.uid > 0 && /^(?:0|root)?(?::|$)/.test(wanted.image.user ?? image.user);
      return {
        id,
        name: "the build container",
        image: image.name,
        tools,
        user: dropped ? `${tools.uid}:${tools.gid}` : undefined,
        env: addedVariables(environment, [...image.env, ...env]),
      };
    } catch (error) {
      if (error instanceof NoShellFailure) await removeContainer(engine, id, signal);
      throw error;
    }
  };

  const given = entrypoint ?? image.entrypoint;
  const hasEntrypoint = given.some((word) => word !== "");
  try {
    return await attempt(hasEntrypoint);
  } catch (error) {
    if (!(error instanceof NoShellFailure)) throw error;
    if (!hasEntrypoint || entrypoint !== null) throw explainNoShell(image.name, error, hasEntrypoint);
    warn(
      notes,
      `The ENTRYPOINT ${JSON.stringify(image.entrypoint)} of the image ${image.name} does not start the command it is given: going on without it. Set "entrypoint" of the job's image to [""] to spare the attempt`,
    );
    return await attempt(false).catch((second: unknown) => {
      throw second instanceof NoShellFailure ? explainNoShell(image.name, second, false) : second;
    });
  }
}
