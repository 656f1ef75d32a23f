import { randomBytes } from "node:crypto";
import type { Notes } from "../../../src/executor/prepare.ts";
import { never, pause } from "../../../src/time.ts";
import type { PullPolicy as ImagePolicyName } from "../../images/policy.ts";
import { deleteObject, getPod, type Pod, podSchema, podsPath } from "../api/pods.ts";
import { ApiFailure } from "../api/status.ts";
import type { PodView } from "../api/watch.ts";
import { within } from "../clean-up/clean-up.ts";
import { LABELS } from "../pod/labels.ts";
import type { Patch } from "../pod/patch.ts";
import { type PodParts, podOf } from "../pod/pod.ts";
import { withPatches } from "../pod/with-patches.ts";
import type { KubernetesSettings } from "../settings/settings.ts";
import type { Cluster } from "./cluster.ts";
import { createFailure, ImageFailure, isQuota, violatesSecurity } from "./failures.ts";
import { createLessons, type LessonsOptions } from "./lessons.ts";
import { untilRunning } from "./until-running.ts";

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
  readonly helper: LessonsOptions["helper"] & {
    readonly name: string;
    readonly policies: readonly ImagePolicyName[];
  };
  readonly patches: readonly Patch[];
  readonly notes: Notes;
  /** Called before a pod is made, which can be found by this name from then on. `view` is to be closed once the job is over. */
  onPod(name: string, view: PodView): void;
}

/** A default helper image that the cluster cannot reach is given less time than one that somebody has configured. */
const HELPER_PATIENCE_MS = 20_000;
const QUOTA_PAUSE_MS = 2000;
const QUOTA_SAID_MS = 30_000;
const UNDO_MS = 60_000;

/**
 * Makes the job's pod and waits until its containers run. If the cluster says what is wrong, and something else can be
 * tried, that is tried.
 */
export async function startPod(options: StartOptions, signal: AbortSignal): Promise<StartedPod> {
  const { cluster, settings, parts, notes, helper } = options;
  let until = performance.now() + settings.pollTimeoutMs;
  const policies = new Map<string, readonly ImagePolicyName[]>([
    ["build", options.buildPolicies],
    ["helper", helper.policies],
    ...parts.services.map(({ container, wanted }) => [container, wanted.policies] as const),
  ]);
  const lessons = createLessons({ policies, helper });
  for (;;) {
    const name = `${parts.unique}-${randomBytes(4).toString("hex")}`;
    const { shells, policyOf } = lessons;
    const whole: PodParts = {
      ...parts,
      name,
      restricted: lessons.restricted,
      build: { ...parts.build, shell: shells.build, pull: policyOf("build") },
      helper: lessons.alone === null ? { name: helper.name, shell: shells.helper, pull: policyOf("helper") } : null,
      services: parts.services.map((service) => ({ ...service, pull: policyOf(service.container) })),
    };
    const manifest = withPatches(podOf(whole), options.patches);
    const view = cluster.watch(options.namespace, parts.owner).view(name);
    options.onPod(name, view);
    let pod: Pod | null = null;
    try {
      pod = await create(options, manifest, name, until, signal);
      const tiresAt = performance.now() + HELPER_PATIENCE_MS;
      const hasOtherWay = (container: string): boolean =>
        lessons.hasOtherPolicy(container) || (container === "helper" && helper.optional && performance.now() > tiresAt);
      const { api } = cluster;
      const running = await untilRunning({ api, settings, notes, view, created: pod, until, hasOtherWay }, signal);
      return {
        name,
        uid: pod.metadata.uid,
        view,
        alone: lessons.alone,
        nodeName: running.spec?.nodeName ?? "",
      };
    } catch (error) {
      view.close();
      const next = lessons.learn(error);
      if (pod !== null) await undo(options, pod);
      const late = performance.now() > until;
      if (next === null || signal.aborted || (late && !(error instanceof ImageFailure))) {
        throw error instanceof ApiFailure ? createFailure(error, options.namespace) : error;
      }
      // A pull that takes all the time says nothing about a way without one.
      if (late) until = performance.now() + settings.pollTimeoutMs;
      notes.print(next, "warning");
    }
  }
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
      return await api.read(call, podSchema, signal);
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
