import { type FailureReason, ScriptFailure, SystemFailure } from "../../../src/errors.ts";
import { pullKind } from "../../images/pull-failure.ts";
import { type ContainerStatus, containerOf, type Pod } from "../api/pods.ts";
import type { ApiFailure } from "../api/status.ts";
import { TABLE } from "../settings/settings.ts";

/** What the state of a pod means for its job. Decisions are made by the API's reason words; messages are only shown. */

/** What the cluster says of a failing pull is cut to this many characters where it is printed. */
export const MOST_SAID = 500;

/** A container's image could not be pulled; another pull policy may succeed. */
export class ImageFailure extends SystemFailure {
  readonly container: string;
  constructor(container: string, message: string, options: { retry: boolean; reason: FailureReason }) {
    super(message, options);
    this.container = container;
  }
}

/** The image has no shell where the pod asked for it. */
export class NoShell extends ScriptFailure {
  readonly container: string;
  constructor(container: string, message: string) {
    super(message);
    this.container = container;
  }
}

/** Reasons in `waiting` with which a container still starts by itself. */
const PATIENT = new Set(["", "ContainerCreating", "PodInitializing"]);

const nameOf = (container: ContainerStatus): string =>
  container.name === "build" || container.name === "helper"
    ? `the ${container.name} container (image ${container.image})`
    : `the service ${container.name} (image ${container.image})`;

function after(said: string): string {
  const text = said.trim().replace(/\s+/g, " ").slice(0, 1000);
  return text === "" ? "" : `: ${text}`;
}

/** Why a container will not start, or `null` while it still may. `transient` failures of pulls are the kubelet's to repeat. */
export function startFailure(
  container: ContainerStatus,
  lastPullMessage: string,
): { readonly error: Error; readonly transient: boolean } | null {
  const waiting = container.state?.waiting;
  const ended = container.state?.terminated;
  const where = nameOf(container);
  if (ended !== undefined && ended !== null && /^(?:StartError|ContainerCannotRun)$/.test(ended.reason)) {
    return { error: cannotRun(container, ended.message), transient: false };
  }
  if (waiting === undefined || waiting === null || PATIENT.has(waiting.reason)) return null;
  const { reason, message } = waiting;
  const image = container.image;
  switch (reason) {
    case "ErrImagePull":
    case "ImagePullBackOff": {
      const said = reason === "ErrImagePull" && message !== "" ? message : lastPullMessage || message;
      const kind = pullKind(said);
      const hint = kind.hint === "" ? "" : `. ${kind.hint}`;
      return {
        error: new ImageFailure(container.name, `Cannot pull the image "${image}"${after(said)}${hint}`, kind),
        transient: kind.retry,
      };
    }
    case "ErrImageNeverPull":
      return {
        error: new ImageFailure(
          container.name,
          `The image "${image}" is not on the node, and its pull policy is never (pull_policy in [${TABLE}])`,
          { retry: false, reason: "image_pull_failure" },
        ),
        transient: false,
      };
    case "InvalidImageName":
      return { error: new ScriptFailure(`"${image}" is no name of an image${after(message)}`), transient: false };
    case "ImageInspectError":
    case "RegistryUnavailable":
      return {
        error: new ImageFailure(container.name, `Cannot get the image "${image}"${after(message)}`, {
          retry: true,
          reason: "runner_external_dependency_failure",
        }),
        transient: true,
      };
    case "SignatureValidationFailed":
      return {
        error: new ImageFailure(
          container.name,
          `The image "${image}" is not signed as the node wants it${after(message)}`,
          {
            retry: false,
            reason: "image_pull_failure",
          },
        ),
        transient: false,
      };
    case "CreateContainerConfigError":
      return {
        error: new SystemFailure(
          `The cluster cannot set up ${where}${after(message)}. Where the image would run as root and may not, set run_as_user in [${TABLE}.pod_security_context], or use another image`,
          { reason: "runner_configuration_error" },
        ),
        transient: false,
      };
    case "PostStartHookError":
      return {
        error: new SystemFailure(`post_start of [${TABLE}.container_lifecycle] fails in ${where}${after(message)}`, {
          reason: "runner_configuration_error",
        }),
        transient: false,
      };
    case "CreateContainerError":
    case "RunContainerError":
    case "CrashLoopBackOff":
      return { error: cannotRun(container, message), transient: false };
    default:
      return null;
  }
}

/** The container's program could not be run; only the runtime's message tells why. */
function cannotRun(container: ContainerStatus, message: string): Error {
  const where = nameOf(container);
  if (/exec format error/.test(message)) {
    return new ImageFailure(
      container.name,
      `The image "${container.image}" is for another processor than the node's${after(message)}`,
      {
        retry: false,
        reason: "image_pull_failure",
      },
    );
  }
  if (/executable file not found|no such file or directory/.test(message)) {
    return new NoShell(
      container.name,
      `The image "${container.image}" has no shell: jobs need sh (or bash) on its PATH${after(message)}`,
    );
  }
  return new SystemFailure(`${where[0]?.toUpperCase()}${where.slice(1)} cannot be started${after(message)}`, {
    retry: true,
  });
}

/** Why a pod was not scheduled, or empty. */
export function waitsFor(pod: Pod): string {
  const condition = pod.status?.conditions?.find(({ type, status }) => type === "PodScheduled" && status === "False");
  return condition === undefined ? "" : condition.message || condition.reason;
}

/** @param warnings of the cluster about the pod */
export function neverStarted(pod: Pod | null | undefined, limitMs: number, warnings: readonly string[]): SystemFailure {
  const within = `within ${Math.round(limitMs / 1000)} s (poll_timeout in [${TABLE}])`;
  if (pod === null || pod === undefined)
    return new SystemFailure(`The job's pod did not appear ${within}`, { retry: true });
  const waiting = waitsFor(pod);
  if (waiting !== "") {
    // An autoscaler may still add a node; but what no node can ever satisfy is a fault of the configuration.
    const never = /didn't match Pod's node affinity\/selector|untolerated taint/.test(waiting);
    return new SystemFailure(`No node had room for the job ${within}${after(waiting)}`, {
      retry: true,
      ...(never ? { reason: "runner_configuration_error" as const } : {}),
    });
  }
  const mount = warnings.find((text) => /^Failed(?:Mount|AttachVolume)/.test(text));
  if (mount !== undefined) {
    const missing = mount.includes("not found");
    return new SystemFailure(`A volume of the job's pod could not be mounted ${within}${after(mount)}`, {
      retry: !missing,
      reason: missing ? "runner_configuration_error" : "runner_system_failure",
    });
  }
  return new SystemFailure(`The job's pod did not start ${within}${after(warnings.at(-1) ?? "")}`, { retry: true });
}

const DISRUPTIONS: Readonly<Record<string, string>> = {
  PreemptionByScheduler: "preempted by a pod of higher priority",
  DeletionByTaintManager: "its node was tainted or lost",
  EvictionByEvictionAPI: "its node is drained",
  DeletionByPodGC: "its node is lost",
  TerminationByKubelet: "its node shuts down or has no resources left",
};

/**
 * Why no script can go on in a pod, or `null` while its containers run.
 * @param uid of the pod that was made
 * @param container that is needed
 */
export function lossOf(
  pod: Pod | null,
  { name, uid, container, memoryLimit }: { name: string; uid: string; container: string; memoryLimit: string },
): Error | null {
  if (pod === null || (uid !== "" && pod.metadata.uid !== uid)) {
    return new SystemFailure(`Somebody has deleted the job's pod ${name}`, { retry: true });
  }
  const { status, metadata } = pod;
  const disruption = status?.conditions?.find(({ type, status: is }) => type === "DisruptionTarget" && is === "True");
  if (status?.phase === "Failed" && status.reason === "Evicted") {
    return evicted(status.message);
  }
  if (disruption !== undefined) {
    const why = DISRUPTIONS[disruption.reason] ?? disruption.reason;
    return new SystemFailure(`The cluster took the job's pod away (${why})${after(disruption.message)}`, {
      retry: true,
    });
  }
  if (status?.reason === "DeadlineExceeded") {
    return new SystemFailure("The job's pod was active for longer than the job may take (activeDeadlineSeconds)");
  }
  const ended = containerOf(pod, container)?.state?.terminated;
  if (ended !== undefined && ended !== null) {
    if (ended.reason === "OOMKilled") {
      return container === "build"
        ? new OutOfMemory(
            `Out of memory: the build container was killed${memoryLimit === "" ? "" : `; it may use ${memoryLimit} (memory_limit in [${TABLE}])`}`,
          )
        : new SystemFailure(
            `The ${container} container was killed for want of memory: raise ${container}_memory_limit in [${TABLE}]`,
          );
    }
    if (metadata.deletionTimestamp === undefined || metadata.deletionTimestamp === null) {
      return new SystemFailure(
        `The ${container} container has ended with status ${ended.exitCode} while a script ran in it${after(ended.message)}`,
        { retry: ended.reason === "ContainerStatusUnknown" },
      );
    }
  }
  if (metadata.deletionTimestamp !== undefined && metadata.deletionTimestamp !== null) {
    return new SystemFailure(`Somebody has deleted the job's pod ${name}`, { retry: true });
  }
  if (status?.phase === "Failed" || status?.phase === "Succeeded") {
    return new SystemFailure(`The job's pod has ended (${status.reason || status.phase})${after(status.message)}`, {
      retry: status.phase === "Failed",
    });
  }
  return null;
}

/** Whether the cluster has said why the pod ended. Its containers may end before that, or without it. */
export function isFinal({ metadata, status }: Pod): boolean {
  return typeof metadata.deletionTimestamp === "string" || (status?.reason ?? "") !== "";
}

const EVICTED = "Evicted: ";

/** The eviction that `warnings` report, or `null`. They come before the pod's own state changes. */
export function evictionOf(warnings: readonly string[]): Error | null {
  const found = warnings.find((text) => text.startsWith(EVICTED));
  return found === undefined ? null : evicted(found.slice(EVICTED.length));
}

function evicted(message: string): Error {
  const own = /ephemeral|emptyDir|EmptyDir/.test(message);
  const text = `The node evicted the job's pod${after(message)}`;
  return own ? new ScriptFailure(text) : new SystemFailure(text, { retry: true });
}

/** The kernel, or the kubelet for it, has ended the build container; that counts as the script's own failure. */
export class OutOfMemory extends ScriptFailure {
  constructor(message: string) {
    super(message, { exitCode: 137 });
  }
}

/** What can be done about a pod that the API refuses. */
export function createFailure(error: ApiFailure, namespace: string): Error {
  const { status, why, said } = error;
  const configuration = (text: string): SystemFailure =>
    new SystemFailure(text, { reason: "runner_configuration_error", cause: error });
  if (status === 404) return configuration(`There is no namespace "${namespace}"${after(said)}`);
  if (status === 422 || status === 400) return configuration(`The cluster refuses the job's pod${after(said)}`);
  if (status !== 403) return error;
  if (isQuota(error))
    return new SystemFailure(`The namespace's quota is used up${after(said)}`, { retry: true, cause: error });
  if (violatesSecurity(error)) {
    return configuration(
      `The namespace "${namespace}" does not admit the job's pod${after(said)}. See pod_security_context and the containers' security contexts in [${TABLE}]`,
    );
  }
  if (why === "Forbidden" && /serviceaccount .* not found/.test(said)) {
    return configuration(`The service account of the job's pod is not there${after(said)}`);
  }
  if (/cannot create resource/.test(said)) {
    return configuration(`The runner may not create pods in "${namespace}": give its role that right${after(said)}`);
  }
  return configuration(`The cluster does not admit the job's pod${after(said)}`);
}

/** Both are plain refusals to the API: only their words tell them from other ones. */
export function isQuota({ status, said }: ApiFailure): boolean {
  return status === 403 && said.includes("exceeded quota");
}

export function violatesSecurity({ status, said }: ApiFailure): boolean {
  return status === 403 && said.includes("violates PodSecurity");
}
