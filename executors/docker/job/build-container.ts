import { entrypointVariables } from "../../images/service-variables.ts";
import { createContainer, explainNoShell, NoShellFailure } from "../container/container.ts";
import { jobContainer } from "../container/container-config.ts";
import type { JobContainer } from "../container/job-container.ts";
import type { MainProgram } from "../container/main-program.ts";
import { removeContainer } from "../container/remove.ts";
import { addedVariables, startWithTools } from "../container/tools-at-start.ts";
import { jobLabels } from "../engine/labels.ts";
import type { ObtainedImage } from "../image/image.ts";
import type { Account } from "./accounts/account.ts";
import { common, gitVariables, nameOf, type Scene } from "./scene.ts";
import type { JobVolumes } from "./volumes.ts";

export interface BuildParts {
  readonly image: ObtainedImage;
  readonly account: Account;
  readonly volumes: JobVolumes;
  /** `HostConfig.NetworkMode`, and names on that network. */
  readonly networkMode: string;
  readonly aliases: readonly string[];
  /** `name:address` */
  readonly hosts: readonly string[];
  /** Before anything of the image runs: given the container's id, makes the job's places. */
  readonly ready: (id: string) => Promise<unknown>;
  /** What the first process runs before it waits for scripts. */
  readonly first: MainProgram | null;
}

/** Whether something of the image's or the job's own runs before the shell. */
export function hasEntrypoint({ wanted }: Pick<Scene, "wanted">, image: ObtainedImage): boolean {
  return (wanted.image.entrypoint ?? image.entrypoint).some((word) => word !== "");
}

/**
 * The container of the job's image, with a shell that waits for scripts. Whatever runs in it runs as whom `account` says, or as
 * whom its ENTRYPOINT went on where that is root.
 */
export async function startBuild(scene: Scene, parts: BuildParts, signal: AbortSignal): Promise<JobContainer> {
  const { engine, settings, wanted, marks, places, notes } = scene;
  const { image, account, volumes, hosts, ready, first } = parts;
  const { entrypoint } = wanted.image;
  const name = `the build container (image ${image.name})`;
  const env = [...entrypointVariables(scene.variables, settings.entrypointVariables), ...gitVariables(places.root)];
  const attempt = async (withEntrypoint: boolean): Promise<JobContainer> => {
    const body = jobContainer({
      ...common(scene, parts.networkMode),
      securityOpt: securityOf(scene, account),
      image,
      labels: jobLabels(marks, "build"),
      aliases: parts.aliases,
      privileged: wanted.image.privileged,
      binds: volumes.binds,
      hostname: settings.hostname ?? scene.unique,
      env,
      user: account.uid === 0 ? wanted.image.user : `${account.uid}:${account.gid}`,
      groups: account.groups,
      entrypoint: withEntrypoint ? entrypoint : ["sh"],
      command: withEntrypoint ? ["sh"] : [],
      extraHosts: [...settings.extraHosts, ...hosts],
    });
    const id = await createContainer(engine, name, { ...body, name: nameOf(scene, "build") }, signal);
    await ready(id);
    try {
      const { tools, environment } = await startWithTools(engine, { id, name, first }, notes, signal);
      const container: JobContainer = {
        id,
        name: "the build container",
        image: image.name,
        tools,
        user: undefined,
        env: [],
        trusted: false,
      };
      if (!withEntrypoint) return container;
      // Scripts see what the ENTRYPOINT set up, and run as whom it chose, where it could choose.
      const dropped = account.uid === 0 && tools.uid > 0;
      return {
        ...container,
        user: dropped ? `${tools.uid}:${Math.max(tools.gid, 0)}` : undefined,
        env: addedVariables(environment, [...image.env, ...env]),
      };
    } catch (error) {
      if (error instanceof NoShellFailure) await removeContainer(engine, id, signal);
      throw error;
    }
  };

  const runsEntrypoint = hasEntrypoint(scene, image);
  try {
    return await attempt(runsEntrypoint);
  } catch (error) {
    if (!(error instanceof NoShellFailure)) throw error;
    if (!runsEntrypoint || entrypoint !== null) throw explainNoShell(image.name, error, runsEntrypoint);
    notes.print(
      `The ENTRYPOINT ${JSON.stringify(image.entrypoint)} of the image ${image.name} does not start the command it is given: going on without it. Set "entrypoint" of the job's image to [""] to spare the attempt`,
      "warning",
    );
    return await attempt(false).catch((second: unknown) => {
      throw second instanceof NoShellFailure ? explainNoShell(image.name, second, false) : second;
    });
  }
}

/**
 * Where the operator says whom jobs may be, no program of the image that is setuid makes root of that. `security_opt` may say
 * otherwise.
 */
export function securityOf({ settings, securityOpt, engine }: Scene, { uid }: Account): string[] {
  const said = securityOpt.filter((option) => /^no-new-privileges\b/.test(option));
  if (said.length > 0) {
    // Podman of old knows only the word alone.
    const off = engine.podman && said.some((option) => /[=:]false$/.test(option));
    return securityOpt.filter((option) => !off || !said.includes(option));
  }
  const bound = settings.user !== undefined || settings.allowedUsers.length > 0;
  return [...securityOpt, ...(bound && uid > 0 ? ["no-new-privileges"] : [])];
}
