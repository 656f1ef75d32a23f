import { describeError, SystemFailure } from "../../../src/errors.ts";
import type { Notes } from "../../../src/executor/prepare.ts";
import type { Api } from "../api/client.ts";
import { type Pod, pulledFor, warningsAbout } from "../api/pods.ts";
import type { PodView } from "../api/watch.ts";
import { type KubernetesSettings, TABLE } from "../settings/settings.ts";
import { ImageFailure, lossOf, MOST_SAID, NoShell, neverStarted, startFailure, waitsFor } from "./failures.ts";

export interface WaitOptions {
  readonly api: Api;
  readonly settings: KubernetesSettings;
  readonly notes: Notes;
  readonly view: PodView;
  readonly created: Pod;
  /** As `performance.now()` counts. */
  readonly until: number;
  /** The kubelet repeats a pull that fails for a while; if there is another policy, that one is tried sooner. */
  readonly hasOtherWay: (container: string) => boolean;
}

/**
 * Waits until all containers of a pod run, and prints meanwhile what it waits for.
 * @throws {ImageFailure | NoShell | SystemFailure} they do not, and waiting longer makes no sense
 */
export async function untilRunning(options: WaitOptions, signal: AbortSignal): Promise<Pod> {
  const { api, settings, notes, view, created, until, hasOtherWay } = options;
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
      const pulling = await slowPull(options, pod, signal);
      if (pulling !== null) throw pulling;
      const warnings = await warningsAbout(api, pod, signal);
      for (const warning of warnings) notes.print(warning, "warning");
      throw neverStarted(pod, settings.pollTimeoutMs, warnings);
    }
    say(reasons[0] ?? waitsFor(pod));
    await view.changed(until - performance.now(), signal);
  }
}

/** The failure of an image that was pulled all the time, or `null`: the cluster itself reports no failure of such a pull. */
async function slowPull({ api, settings }: WaitOptions, pod: Pod, signal: AbortSignal): Promise<ImageFailure | null> {
  const waiting = (pod.status?.containerStatuses ?? []).filter(({ state }) => state?.waiting);
  if (waiting.length === 0) return null;
  const pulled = await pulledFor(api, pod, signal);
  const slow = waiting.find(({ name }) => pulled.has(name));
  if (slow === undefined) return null;
  const limit = `${Math.round(settings.pollTimeoutMs / 1000)} s (poll_timeout in [${TABLE}])`;
  return new ImageFailure(
    slow.name,
    `After ${limit} the image "${slow.image}" is still being pulled: its registry is slow, or does not answer`,
    { retry: true, reason: "runner_external_dependency_failure" },
  );
}

/** Prints what the cluster says about the pod, where the failure's own words are not enough. */
async function sayWarnings({ api, settings, notes }: WaitOptions, pod: Pod, signal: AbortSignal): Promise<void> {
  if (!settings.printPodWarningEvents) return;
  for (const warning of await warningsAbout(api, pod, signal)) notes.print(warning, "warning");
}
