import { SystemFailure } from "../../../src/errors.ts";
import { createContainer, NoShellFailure } from "../container/container.ts";
import { jobContainer } from "../container/container-config.ts";
import type { JobContainer } from "../container/job-container.ts";
import type { MainProgram } from "../container/main-program.ts";
import { startWithTools } from "../container/tools-at-start.ts";
import { containerCommands, runForText } from "../engine/commands.ts";
import { jobLabels, LABELS } from "../engine/labels.ts";
import type { ObtainedImage } from "../image/image.ts";
import type { DockerSettings } from "../settings/settings.ts";
import type { Account } from "./accounts/account.ts";
import type { JobNetwork } from "./network/network.ts";
import { common, gitVariables, nameOf, type Scene } from "./scene.ts";
import { slotLabel } from "./slots.ts";
import type { JobVolumes } from "./volumes.ts";

interface HelperParts {
  readonly network: JobNetwork;
  readonly volumes: JobVolumes;
  readonly image: ObtainedImage;
  /** `name:address` */
  readonly hosts: readonly string[];
  /** Whom the job runs as. */
  readonly account: Account;
}

/**
 * The container with git. It is there before the job's, whose network it owns: joining one anew would take twice as long.
 * @returns its id
 */
export async function createHelper(
  scene: Scene,
  { network, volumes, image, hosts, account }: HelperParts,
  signal: AbortSignal,
): Promise<string> {
  const { engine, settings, wanted, marks, places, request, slot } = scene;
  const body = jobContainer({
    ...common(scene, network.mode),
    settings: account.uid === 0 ? settings : keepingRights(settings),
    image,
    labels: {
      ...jobLabels(marks, "helper"),
      [LABELS.slot]: slotLabel(request.runnerId, request.job.projectId, slot),
    },
    // The build container's name, which has the same address.
    aliases: network.own ? ["build"] : [],
    privileged: wanted.image.privileged,
    binds: volumes.binds,
    hostname: settings.hostname ?? scene.unique,
    env: gitVariables(places.root),
    user: "0",
    groups: [],
    entrypoint: ["sh"],
    command: [],
    extraHosts: [...settings.extraHosts, ...hosts],
  });
  return await createContainer(engine, nameFor(image), { ...body, name: nameOf(scene, "helper") }, signal);
}

/** What root needs to make directories in other people's and to give them away. */
const HANDING_OVER = ["CHOWN", "DAC_OVERRIDE", "FOWNER"];

/** `cap_drop` without these: the helper is root for its own steps, and all that comes from the job runs as another there. */
function keepingRights<Settings extends Pick<DockerSettings, "capAdd" | "capDrop">>(settings: Settings): Settings {
  const named = (list: readonly string[], name: string): boolean =>
    list.some((each) => each.toUpperCase().replace(/^CAP_/, "") === name);
  const { capAdd, capDrop } = settings;
  const missing = named(capDrop, "ALL") ? HANDING_OVER.filter((name) => !named(capAdd, name)) : [];
  return {
    ...settings,
    // Engines disagree on what is both dropped and added.
    capDrop: capDrop.filter((each) => !HANDING_OVER.some((name) => named([each], name))),
    capAdd: [...capAdd, ...missing],
  };
}

function nameFor(image: ObtainedImage): string {
  return `the helper container (image ${image.name})`;
}

/** Starts it: the job's places are ready then. It works as root until `worksAs`. */
export async function startHelper(
  { engine, notes }: Scene,
  { id, image, prepare }: { id: string; image: ObtainedImage; prepare: MainProgram },
  signal: AbortSignal,
): Promise<JobContainer> {
  const start = { id, name: nameFor(image), first: prepare };
  const { tools } = await startWithTools(engine, start, notes, signal).catch((error: unknown) => {
    if (!(error instanceof NoShellFailure)) throw error;
    throw new SystemFailure(`${error.message}. helper_image in [runners.docker] must have sh and git`, {
      reason: "runner_configuration_error",
      cause: error,
    });
  });
  if (!tools.programs.has("git")) {
    const why = "without it there are no sources. helper_image in [runners.docker] must have sh and git";
    notes.print(`The helper image ${image.name} has no git: ${why}`, "warning");
  }
  return { id, name: "the helper container", image: image.name, tools, user: undefined, env: [], trusted: true };
}

/** The helper as the job's user, so that the checkout is that user's. Git wants a home that its user may write to. */
export function worksAs(helper: JobContainer, uid: number, gid: number, home: string): JobContainer {
  return uid === 0 ? helper : { ...helper, user: `${uid}:${gid}`, env: [`HOME=${home}`] };
}

/**
 * Run a small program of the runner's in a container that runs.
 * @throws {SystemFailure} it failed
 * @returns what it printed
 */
export async function runStep(
  { engine }: Pick<Scene, "engine">,
  { id, name, user }: { id: string; name: string; user: string | undefined },
  { script, args }: Pick<MainProgram, "script" | "args">,
  signal: AbortSignal,
): Promise<string> {
  const commands = containerCommands({ engine, container: id, name, ...(user === undefined ? {} : { user }) });
  const bytes = args.map((arg) => Buffer.from(arg).toString("latin1"));
  const { code, stdout, stderr } = await runForText(commands, { script, args: bytes }, signal);
  if (code === 0) return stdout;
  throw new SystemFailure(`Cannot set up the builds directory in ${name}: ${stderr.trim().slice(-500)}`, {
    retry: true,
  });
}
