import { randomBytes } from "node:crypto";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import type { Notes } from "../../../src/executor.ts";
import { never, pause } from "../../../src/time.ts";
import type { PullPolicy as ImagePolicyName } from "../../images/policy.ts";
import { deleteObject, getPod, type Pod, podSchema, podsPath, warningsAbout } from "../api/pods.ts";
import { ApiFailure } from "../api/status.ts";
import type { PodView } from "../api/watch.ts";
import { within } from "../clean-up/clean-up.ts";
import { LABELS } from "../pod/labels.ts";
import type { Patch } from "../pod/patch.ts";
import { specSchema, withPatches } from "../pod/patches.ts";
import { type PodParts, type PullPolicy, podOf } from "../pod/pod.ts";
import type { KubernetesSettings } from "../settings/settings.ts";
import type { Cluster } from "./cluster.ts";
import {
  createFailure,
  ImageFailure,
  isQuota,
  lossOf,
  NoShell,
  neverStarted,
  startFailure,
  violatesSecurity,
  waitsFor,
} from "./failures.ts";

/** A pod whose containers run. */
export interface StartedPod {
  readonly name: string;
  readonly uid: string;
  readonly view: PodView;
  /** Why the build container does the helper's work, too; `null` if there is a helper. */
  readonly alone: string | null;
  readonly nodeName: string;
}

export interface StartOptions {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly settings: KubernetesSettings;
  /** All parts of the pod except those that are found by trying. */
  readonly parts: Omit<PodParts, "name" | "build" | "helper" | "restricted"> & {
    readonly build: Omit<PodParts["build"], "pull" | "shell">;
  };
  readonly buildPolicies: readonly ImagePolicyName[];
  readonly helper: {
    readonly name: string;
    readonly policies: readonly ImagePolicyName[];
    /** Nobody has configured the helper image: if it cannot be pulled, the job's own image may do. */
    readonly optional: boolean;
    /** Why the helper image is not even tried; `null` if it is. */
    readonly missing: string | null;
  };
  readonly servicePolicies: readonly (readonly ImagePolicyName[])[];
  readonly patches: readonly Patch[];
  readonly notes: Notes;
  /** Called before a pod is made, which can be found by this name from then on. `view` is to be closed once the job is over. */
  onPod(name: string, view: PodView): void;
}

const NAMES: Readonly<Record<ImagePolicyName, PullPolicy>> = {
  always: "Always",
  "if-not-present": "IfNotPresent",
  never: "Never",
};
/** A default helper image that the cluster cannot reach is given less time than one that somebody has configured. */
const HELPER_PATIENCE_MS = 20_000;
const OTHER_SHELL = "/busybox/sh";
const QUOTA_PAUSE_MS = 2000;
const QUOTA_SAID_MS = 30_000;
const UNDO_MS = 60_000;
/** Each kind of failing pull is printed once, cut to this many characters. */
const MOST_SAID = 500;

/** What earlier tries have shown. */
interface Lessons {
  readonly shells: { build: string; helper: string };
  /** Container → which of its policies is tried. */
  readonly policies: Map<string, number>;
  alone: string | null;
  restricted: boolean;
}

/**
 * Makes the job's pod and waits until its containers run. If the cluster says what is wrong, and something else can be
 * tried, that is tried.
 */
export async function startPod(options: StartOptions, signal: AbortSignal): Promise<StartedPod> {
  const { cluster, settings, parts, notes, helper } = options;
  const until = performance.now() + settings.pollTimeoutMs;
  const lessons: Lessons = {
    shells: { build: "sh", helper: "sh" },
    policies: new Map(),
    alone: helper.missing,
    restricted: false,
  };
  const containers = new Map<string, readonly ImagePolicyName[]>([
    ["build", options.buildPolicies],
    ["helper", helper.policies],
  ]);
  const policyOf = (container: string, policies: readonly ImagePolicyName[]): PullPolicy => {
    const policy = policies[lessons.policies.get(container) ?? 0];
    return policy === undefined ? undefined : NAMES[policy];
  };
  for (;;) {
    const name = `${parts.unique}-${randomBytes(4).toString("hex")}`;
    const whole: PodParts = {
      ...parts,
      name,
      restricted: lessons.restricted,
      build: { ...parts.build, shell: lessons.shells.build, pull: policyOf("build", options.buildPolicies) },
      helper:
        lessons.alone === null
          ? { name: helper.name, shell: lessons.shells.helper, pull: policyOf("helper", helper.policies) }
          : null,
      services: parts.services.map((service, index) => {
        const policies = options.servicePolicies[index] ?? [];
        return { ...service, pull: policyOf(`service ${index}`, policies) };
      }),
    };
    const manifest = withPatches(podOf(whole), options.patches);
    const view = cluster.watch(options.namespace).view(name);
    options.onPod(name, view);
    let pod: Pod | null = null;
    try {
      pod = await create(options, manifest, name, until, signal);
      const tiresAt = performance.now() + HELPER_PATIENCE_MS;
      const hasOtherWay = (container: string): boolean =>
        otherPolicy(container, lessons, options, containers, whole) !== null ||
        (container === "helper" && helper.optional && performance.now() > tiresAt);
      const running = await untilRunning(options, view, pod, { hasOtherWay, until }, signal);
      return {
        name,
        uid: pod.metadata.uid,
        view,
        alone: lessons.alone,
        nodeName: running.spec?.nodeName ?? "",
      };
    } catch (error) {
      view.close();
      const next = learn(error, lessons, options, containers, whole);
      if (pod !== null) await undo(options, pod);
      if (next === null || signal.aborted || performance.now() > until) {
        throw error instanceof ApiFailure ? createFailure(error, options.namespace) : error;
      }
      notes.print(next, "warning");
    }
  }
}

/** What the next try does differently; `null` if another try makes no sense. */
function learn(
  error: unknown,
  lessons: Lessons,
  options: StartOptions,
  containers: ReadonlyMap<string, readonly ImagePolicyName[]>,
  whole: PodParts,
): string | null {
  if (error instanceof ApiFailure && violatesSecurity(error) && !lessons.restricted) {
    lessons.restricted = true;
    return "The namespace admits only restricted pods: the job runs without root, as user 1000 where nothing else is configured";
  }
  if (error instanceof NoShell && (error.container === "build" || error.container === "helper")) {
    if (lessons.shells[error.container] === OTHER_SHELL) return null;
    lessons.shells[error.container] = OTHER_SHELL;
    return `The image of the ${error.container} container has no sh on its PATH: trying ${OTHER_SHELL}`;
  }
  if (!(error instanceof ImageFailure)) return null;
  const { container } = error;
  const other = otherPolicy(container, lessons, options, containers, whole);
  if (other !== null) {
    lessons.policies.set(other.key, other.index);
    return `${error.message.slice(0, MOST_SAID)}. Trying with pull policy ${other.policy}`;
  }
  if (container === "helper" && options.helper.optional && lessons.alone === null) {
    lessons.alone = error.message;
    return `${error.message.slice(0, MOST_SAID)}. The job's own image has to do for git: helper_image may name one that the cluster can pull`;
  }
  return null;
}

function otherPolicy(
  container: string,
  lessons: Lessons,
  { servicePolicies }: StartOptions,
  containers: ReadonlyMap<string, readonly ImagePolicyName[]>,
  whole: PodParts,
): { readonly key: string; readonly index: number; readonly policy: ImagePolicyName } | null {
  const service = whole.services.findIndex((__, index) => serviceName(whole, index) === container);
  const key = containers.has(container) ? container : `service ${service}`;
  const policies = containers.get(container) ?? servicePolicies[service] ?? [];
  const index = (lessons.policies.get(key) ?? 0) + 1;
  const policy = policies[index];
  return policy === undefined ? null : { key, index, policy };
}

function serviceName(whole: PodParts, index: number): string | undefined {
  const spec: unknown = podOf(whole).spec;
  const list = specSchema.safeParse(spec);
  const offset = whole.helper === null ? 1 : 2;
  return list.success ? list.data.containers[index + offset]?.name : undefined;
}

async function create(
  { cluster, namespace, notes, parts }: StartOptions,
  manifest: Record<string, unknown>,
  name: string,
  until: number,
  signal: AbortSignal,
): Promise<Pod> {
  const { api } = cluster;
  let saidAt = -Infinity;
  for (;;) {
    try {
      const call = { what: "create the job's pod", method: "POST", path: podsPath(namespace), body: manifest } as const;
      return podSchema.parse(await api.call(call, signal));
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof ApiFailure)) throw error;
      if (error.status === 409) {
        // The pod exists already: the answer to an earlier try was lost.
        const there = await getPod(api, namespace, name, signal);
        if (there?.metadata.labels?.[LABELS.jobKey] === parts.request.jobKey) return there;
      }
      if (isQuota(error) && performance.now() + QUOTA_PAUSE_MS < until) {
        if (performance.now() - saidAt > QUOTA_SAID_MS) {
          saidAt = performance.now();
          notes.print(`Waiting for room in the namespace's quota: ${error.said}`);
        }
        await pause(QUOTA_PAUSE_MS, signal);
        continue;
      }
      if (violatesSecurity(error)) throw parts.settings.privileged === true ? createFailure(error, namespace) : error;
      throw createFailure(error, namespace);
    }
  }
}

async function untilRunning(
  options: StartOptions,
  view: PodView,
  created: Pod,
  /** The kubelet repeats a pull that fails for a while; if there is another policy, that one is tried sooner. */
  { hasOtherWay, until }: { readonly hasOtherWay: (container: string) => boolean; readonly until: number },
  signal: AbortSignal,
): Promise<Pod> {
  const { cluster, settings, notes } = options;
  const { name, uid, namespace } = created.metadata;
  let said = "";
  const pullMessages = new Map<string, string>();
  const say = (text: string): void => {
    // Ports and counts change from try to try; a text that differs only in its numbers is not printed again.
    const news = text.replace(/\d+/g, "0");
    if (news === said || text === "") return;
    said = news;
    notes.print(`Waiting for pod ${namespace}/${name}: ${text}`);
  };
  for (;;) {
    const pod = view.pod === undefined ? created : view.pod;
    const loss = lossOf(pod, { name, uid, container: "", memoryLimit: "" });
    if (loss !== null || pod === null) throw loss ?? neverStarted(pod, settings.pollTimeoutMs, []);
    let running = (pod.status?.containerStatuses ?? []).length > 0;
    const reasons: string[] = [];
    for (const container of pod.status?.containerStatuses ?? []) {
      const { waiting, running: runs, terminated } = container.state ?? {};
      if (waiting?.reason === "ErrImagePull" && waiting.message !== "")
        pullMessages.set(container.name, waiting.message);
      const failed = startFailure(container, pullMessages.get(container.name) ?? "");
      const patient = failed?.transient === true && performance.now() < until && !hasOtherWay(container.name);
      if (failed !== null && !patient) {
        if (!(failed.error instanceof ImageFailure || failed.error instanceof NoShell)) {
          await sayWarnings(options, pod, signal);
        }
        throw failed.error;
      }
      if (failed !== null) reasons.push(describeError(failed.error).slice(0, MOST_SAID));
      const isOwn = container.name === "build" || container.name === "helper";
      if (isOwn && terminated) {
        const ended = lossOf(pod, { name, uid, container: container.name, memoryLimit: "" });
        throw ended ?? new SystemFailure(`The ${container.name} container has ended at once`, { retry: true });
      }
      if (!runs && !terminated) running = false;
    }
    if (running) return pod;
    if (performance.now() >= until) {
      const warnings = await warningsAbout(cluster.api, pod, signal);
      for (const warning of warnings) notes.print(warning, "warning");
      throw neverStarted(pod, settings.pollTimeoutMs, warnings);
    }
    say(reasons[0] ?? waitsFor(pod));
    await view.changed(until - performance.now(), signal);
  }
}

/** Prints what the cluster says about the pod, where the failure's own words are not enough. */
async function sayWarnings({ cluster, settings, notes }: StartOptions, pod: Pod, signal: AbortSignal): Promise<void> {
  if (!settings.printPodWarningEvents) return;
  for (const warning of await warningsAbout(cluster.api, pod, signal)) notes.print(warning, "warning");
}

async function undo({ cluster, namespace, settings }: StartOptions, pod: Pod): Promise<void> {
  const { name, uid } = pod.metadata;
  await within(UNDO_MS, never, (signal) =>
    deleteObject(
      cluster.api,
      {
        what: `delete the pod ${name}`,
        path: podsPath(namespace, name),
        uid,
        graceSeconds: settings.cleanupGraceSeconds,
      },
      signal,
    ),
  );
}
