import type { ExecutorDeps } from "../../../src/executor/deps.ts";
import type { Notes, PreparedVariables, PrepareRequest } from "../../../src/executor/prepare.ts";
import type { Variable } from "../../../src/job/job.ts";
import { gitTrustVariables } from "../../common/places/git-trust.ts";
import { homeDirectory } from "../../common/places/home.ts";
import { loginsOfJob } from "../../images/login-sources.ts";
import { nameServices } from "../../images/service-names.ts";
import { type Wanted, wantedImages } from "../../images/wanted.ts";
import { inlineProfiles, type JobContainerParts } from "../container/container-config.ts";
import { choosePlaces, DEFAULT_BUILDS_DIR, type Places, uniqueName } from "../container/places.ts";
import type { Engine } from "../engine/engine.ts";
import { containerName, type JobMarks, type Owner } from "../engine/labels.ts";
import type { HelperImages } from "../image/helper-image.ts";
import { createImageSource } from "../image/pull.ts";
import type { JobUses } from "../kept/uses.ts";
import { type DockerSettings, TABLE } from "../settings/settings.ts";
import type { Accounts } from "./accounts/accounts.ts";
import { configuredNetwork, type JobNetwork } from "./network/network.ts";
import type { NetworkLoan } from "./network/network-pool.ts";

export interface PrepareJobOptions {
  readonly engine: Engine;
  readonly settings: DockerSettings;
  readonly deps: ExecutorDeps;
  readonly owner: Owner;
  readonly helperImages: HelperImages;
  readonly accounts: Accounts;
  readonly request: PrepareRequest;
  readonly slot: number;
  /** The runner's next process is to go on with the job. */
  readonly lasting: boolean;
  /** Goes back with `destroy`. */
  readonly network: NetworkLoan;
  /** End with `destroy`, too. */
  readonly uses: JobUses;
  readonly destroy: (signal: AbortSignal) => Promise<void>;
}

/** What all steps of one preparation share. */
export interface Scene extends PrepareJobOptions {
  readonly notes: Notes;
  readonly marks: JobMarks;
  readonly places: Places;
  readonly wanted: Wanted;
  readonly naming: ReturnType<typeof nameServices>;
  readonly variables: PreparedVariables;
  readonly unique: string;
  readonly apiVersion: readonly [number, number];
  readonly securityOpt: readonly string[];
  readonly obtain: ReturnType<typeof createImageSource>;
  /** Until the last of its images was there. */
  imageSeconds(): number;
}

export function gitVariables(root: string): string[] {
  return gitTrustVariables(root).map(({ name, value }) => `${name}=${value}`);
}

/** What is the same for every way of running a job in containers: its images are checked, its places and logins are known. */
export async function openScene(options: PrepareJobOptions, notes: Notes): Promise<Scene> {
  const { engine, settings, deps, request, slot } = options;
  const { job, expand } = request;
  const wanted = wantedImages({
    policy: { ...settings, table: TABLE },
    image: job.image,
    services: job.services,
    expand,
  });
  const naming = nameServices(wanted.services, [hostOf(job.git.repoUrl)]);
  for (const warning of [...wanted.warnings, ...naming.warnings]) notes.print(warning, "warning");
  const buildsDir = deps.entry.buildsDir ?? DEFAULT_BUILDS_DIR;
  const places = choosePlaces({ buildsDir, settings, request, slot });
  const logins = await loginsOfJob(request, { env: deps.host.env, home: homeDirectory() });
  for (const warning of logins.warnings) notes.print(warning, "warning");
  const source = createImageSource(engine, logins, notes, options.uses);
  const began = performance.now();
  let imageMs = 0;
  return {
    ...options,
    imageSeconds: () => imageMs / 1000,
    notes,
    marks: { owner: options.owner, request },
    places,
    wanted,
    naming,
    variables: request.openVariables({ ...places, projectSlot: slot }),
    unique: uniqueName(request.runnerId, job.projectId, slot),
    apiVersion: versionOf(engine.apiVersion),
    securityOpt: await inlineProfiles(settings.securityOpt),
    obtain: async (image, signal) => {
      const found = await source(image, signal);
      imageMs = performance.now() - began;
      return found;
    },
  };
}

function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).hostname : "";
}

function versionOf(text: string): [number, number] {
  const [major = "1", minor = "0"] = text.split(".");
  return [Number(major), Number(minor)];
}

export async function networkOf(scene: Scene, signal: AbortSignal): Promise<JobNetwork> {
  const configured = configuredNetwork(scene.settings);
  if (configured !== null) return configured;
  const { id, name } = await scene.network.take(signal);
  return { own: true, mode: id, name };
}

/** What a job is told of its network. */
export function networkVariables(name: string | undefined): Variable[] {
  if (name === undefined) return [];
  return [{ key: "CI_BUILD_NETWORK_NAME", value: name, public: true, file: false, masked: false, raw: true }];
}

/** With the name of its network among the variables: services and an ENTRYPOINT may start containers in it. */
export function inNetwork(scene: Scene, network: JobNetwork): Scene {
  const { open, withSecrets, expandWith } = scene.variables;
  const added = new Map(networkVariables(network.name).map(({ key, value }) => [key, value]));
  const told = [...added].map(([key, value]) => ({ ...TOLD, key, value }));
  return {
    ...scene,
    variables: {
      open: [...open.filter(({ key }) => !added.has(key)), ...told],
      withSecrets: () => [...withSecrets().filter(({ key }) => !added.has(key)), ...told],
      expandWith: (own, text) => expandWith(new Map([...added, ...own]), text),
    },
  };
}

const TOLD = { complete: true, secretName: false, ofOperator: false, redirecting: false };

type Common = Pick<JobContainerParts, "settings" | "apiVersion" | "podman" | "networkMode" | "securityOpt">;

export function common({ settings, apiVersion, engine, securityOpt }: Scene, networkMode: string): Common {
  return { settings, apiVersion, podman: engine.podman, networkMode, securityOpt };
}

export function nameOf({ unique, request }: Scene, role: string): string {
  return containerName(unique, request.jobKey, role);
}
