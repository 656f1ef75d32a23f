import { ScriptFailure, SystemFailure } from "../../../../src/errors.ts";
import type { Notes } from "../../../../src/executor/prepare.ts";
import type { Argv, ShellName } from "../../../../src/shell.ts";
import { all, never, unlessAborted } from "../../../../src/time.ts";
import { refuseChosenRoot } from "../../../common/places/chosen-root.ts";
import { probeTools, type RemoteCommands, type RemotePty, runToEnd } from "../../../remote/index.ts";
import { ENTRYPOINT_FILE } from "../../pod/idle.ts";
import type { Places } from "../../pod/places.ts";
import type { Chosen } from "../../settings/overwrites.ts";
import { type KubernetesSettings, TABLE } from "../../settings/settings.ts";
import type { StartedPod } from "../start-pod.ts";
import { type ContainerPlace, openContainer } from "./container.ts";
import { areApart, type JobContainer, type KnownContainer } from "./job-container.ts";
import { ENTRYPOINT_ENVIRONMENT, HAS_HOME, MAKE_PLACES, MAY_WRITE } from "./places-program.ts";

export interface Containers {
  readonly build: JobContainer;
  /** May be the build container itself. */
  readonly helper: JobContainer;
}

export interface ContainersOptions extends ContainerPlace {
  readonly settings: KubernetesSettings;
  readonly resources: Chosen["resources"];
  readonly pod: StartedPod;
  readonly places: Places;
  readonly buildImage: string;
  readonly helperImage: string;
  readonly hasEntrypoint: boolean;
}

/**
 * Looks at what the containers of a pod have, as scripts will find it.
 * @throws {SystemFailure} none of them has git
 */
export async function describeContainers(options: ContainersOptions, signal: AbortSignal): Promise<Containers> {
  const { settings, resources, pod, places, buildImage, helperImage } = options;
  const describe = async (name: "build" | "helper", image: string): Promise<JobContainer> => {
    const memoryLimit = resources.get(name === "build" ? "memory_limit" : "helper_memory_limit")?.text ?? "";
    const opened = openContainer(options, name, memoryLimit);
    const plain = opened.commands();
    const hasEntrypoint = name === "build" && options.hasEntrypoint;
    const env = hasEntrypoint ? await entrypointEnvironment(plain, image, settings, signal) : [];
    const [tools, home] = await all([
      probeTools(plain, signal),
      runToEnd(plain, { script: HAS_HOME, args: [] }, 1024, signal),
    ]);
    const hasHome = home.stdout.toString("utf8").trim() === "yes";
    const added = [...env, ...homeOf(hasHome, places)];
    const pty = (argv: Argv, asking: AbortSignal): Promise<RemotePty> => opened.pty(added, argv, asking);
    const { lost, whenLost } = opened;
    const known = { image, memoryLimit, tools, hasHome, hasEntrypoint };
    return { name, image, tools, commands: opened.commands(added), openPty: pty, memoryLimit, lost, whenLost, known };
  };
  if (pod.alone !== null) {
    const build = await describe("build", buildImage);
    if (build.tools.programs.has("git")) return { build, helper: build };
    throw new SystemFailure(
      `No image with git for the runner's own work: ${pod.alone}; and the job's image has no git. Set helper_image in [${TABLE}] to an image with sh and git`,
      { reason: "runner_configuration_error" },
    );
  }
  const [build, helper] = await all([describe("build", buildImage), describe("helper", helperImage)]);
  return { build, helper };
}

/** An account without a home gets one. */
function homeOf(hasHome: boolean, { tmpDir }: Pick<Places, "tmpDir">): readonly string[] {
  return hasHome ? [] : [`HOME=${tmpDir}`];
}

export interface FoundContainerOptions extends ContainerPlace {
  readonly settings: KubernetesSettings;
  readonly places: Pick<Places, "tmpDir">;
}

/** A container that an earlier process has described. Nothing is asked of it until it is used. */
export function foundContainer(
  options: FoundContainerOptions,
  name: "build" | "helper",
  known: KnownContainer,
): JobContainer {
  const { image, memoryLimit, tools, hasHome, hasEntrypoint } = known;
  const opened = openContainer(options, name, memoryLimit);
  let asked: Promise<readonly string[]> | null = null;
  /** What an entrypoint sets may be secret, and was not noted. */
  const added = async (signal: AbortSignal): Promise<readonly string[]> => {
    const home = homeOf(hasHome, options.places);
    if (!hasEntrypoint) return home;
    asked ??= entrypointEnvironment(opened.commands(), image, options.settings, never);
    const asking = asked;
    asking.catch(() => {
      if (asked === asking) asked = null;
    });
    return [...(await unlessAborted(asking, signal)), ...home];
  };
  const { lost, whenLost } = opened;
  return {
    ...{ name, image, tools, memoryLimit, lost, whenLost, known },
    commands: {
      start: async (command, signal) => await opened.commands(await added(signal)).start(command, signal),
    },
    openPty: async (argv, signal) => await opened.pty(await added(signal), argv, signal),
  };
}

async function entrypointEnvironment(
  commands: RemoteCommands,
  image: string,
  { pollTimeoutMs }: KubernetesSettings,
  signal: AbortSignal,
): Promise<string[]> {
  const args = [String(Math.ceil(pollTimeoutMs / 1000)), ENTRYPOINT_FILE];
  const asked = runToEnd(commands, { script: ENTRYPOINT_ENVIRONMENT, args }, 1024 * 1024, signal);
  const { code, stdout } = await unlessAborted(asked, signal);
  if (code !== 0)
    throw new ScriptFailure(`The entrypoint of the image ${image} does not start the command it is given`);
  const [with_ = "", without = ""] = stdout.toString("utf8").split("\0\0");
  const plain = new Set(without.split("\0"));
  const own = /^(?:_|PWD|OLDPWD|SHLVL)=/;
  return with_.split("\0").filter((entry) => entry.includes("=") && !plain.has(entry) && !own.test(entry));
}

/** Makes the job's directories and gives them to the user of its scripts. */
export async function makePlaces(
  { build, helper }: Containers,
  places: Places,
  notes: Notes,
  signal: AbortSignal,
): Promise<void> {
  const { uid, gid } = build.tools;
  const { buildsDir, root, tmpDir, scriptsDir, chosen } = places;
  // A helper that is root makes the directories and gives them away; else the user of the scripts makes them.
  const maker = helper.tools.uid === 0 ? helper : build;
  // The helper, as root, removes what is in the way of sources, too.
  if (chosen === "among-others" && helper !== build && helper.tools.uid <= 0 && uid !== 0) {
    throw refuseChosenRoot(
      root,
      `may be another's, and the helper is root, which the job is not. Set run_as_user in [${TABLE}.pod_security_context]`,
    );
  }
  const shared = areApart(build, helper);
  const checkout = root.slice(buildsDir.length + 1);
  // `<builds_dir>/<runner id>` is there for all jobs of the runner, whoever they run as.
  const keep = places.shared && chosen === null ? (checkout.split("/")[0] ?? "") : "";
  const group = shared ? "group" : "";
  const args = [uid, gid, buildsDir, checkout, tmpDir, scriptsDir, group, keep, chosen ?? ""].map((arg) =>
    Buffer.from(String(arg)).toString("latin1"),
  );
  const { code, stderr } = await runToEnd(maker.commands, { script: MAKE_PLACES, args }, 64 * 1024, signal);
  if (code !== 0) {
    const why = stderr.trim().split("\n").at(-1) ?? "";
    throw new SystemFailure(`The job's directories cannot be made in the ${maker.name} container: ${why}`, {
      reason: "runner_configuration_error",
    });
  }
  if (!shared) return;
  const asked = { script: MAY_WRITE, args: [root, tmpDir].map((arg) => Buffer.from(arg).toString("latin1")) };
  if ((await runToEnd(helper.commands, asked, 1024, signal)).code !== 0) {
    notes.print(
      `The build container runs as user ${uid} and the helper as ${helper.tools.uid}, and they share no group: what the one has made the other cannot change. Set run_as_user or fs_group in [${TABLE}.pod_security_context]`,
      "warning",
    );
  }
}

/** @throws {ScriptFailure} the operator wants one that the job's image has not */
export function shellOf(configured: ShellName | undefined, { tools, image }: JobContainer): ShellName {
  const found = configured ?? (tools.bash === null ? "sh" : "bash");
  if ((found === "bash" && tools.bash === null) || (found === "pwsh" && !tools.programs.has(found))) {
    throw new ScriptFailure(
      `The image ${image} has no ${found} on its PATH, and jobs of this runner are written for it (shell = "${found}"): use another image`,
    );
  }
  return found;
}
