import type { PrepareRequest } from "../../../src/executor/prepare.ts";
import { gitTrustVariables } from "../../common/places/git-trust.ts";
import type { WantedService } from "../../images/wanted.ts";
import { filled, isDnsLabel, isDnsSubdomain } from "../settings/fields.ts";
import { type Chosen, chooseForService } from "../settings/overwrites.ts";
import type { Quantity } from "../settings/quantity.ts";
import { RESOURCES, type ResourceKind, type SIDES } from "../settings/resources.ts";
import type { KubernetesSettings } from "../settings/settings.ts";
import { idleArgv } from "./idle.ts";
import { isReserved, knownAnnotations, knownLabels, labelValue, type Owner, ownLabels } from "./labels.ts";
import { type Places, RUN_DIR } from "./places.ts";

/** A job and its entry → the pod that the cluster is asked for. Pure. */

export type PullPolicy = "Always" | "IfNotPresent" | "Never" | undefined;

export interface PodImage {
  readonly name: string;
  readonly pull: PullPolicy;
}

export interface PodService {
  readonly wanted: WantedService;
  /** Host names by which the other containers know it. */
  readonly names: readonly string[];
  /** The name of its container. */
  readonly container: string;
  readonly pull: PullPolicy;
  /** `NAME=value` */
  readonly env: readonly string[];
}

/** A mount of the entry's with its names expanded. */
export interface PodMount {
  readonly kind: string;
  readonly name: string;
  readonly mountPath: string;
  readonly subPath: string | undefined;
  readonly readOnly: boolean;
  readonly mountPropagation: string | undefined;
  readonly source: Readonly<Record<string, unknown>>;
}

export interface PodParts {
  readonly name: string;
  readonly unique: string;
  readonly owner: Owner;
  readonly request: Pick<PrepareRequest, "job" | "jobKey" | "runnerId">;
  readonly settings: KubernetesSettings;
  readonly chosen: Chosen;
  readonly places: Places;
  /** Whether a configured volume covers the builds directory. */
  readonly covered: boolean;
  readonly mounts: readonly PodMount[];
  readonly build: PodImage & {
    readonly entrypoint: readonly string[] | null;
    readonly user: string | null;
    readonly shell: string;
  };
  /** `null`: the build container does the helper's work. */
  readonly helper: (PodImage & { readonly shell: string }) | null;
  readonly services: readonly PodService[];
  /** Secret with the job's logins. */
  readonly loginSecret: string | null;
  readonly pullSecrets: readonly string[];
  /** Whether to add what Pod Security `restricted` demands, where nothing is configured. */
  readonly restricted: boolean;
}

/** The cluster ends a pod this long after its job's limit, in case the runner that keeps that limit has died. */
const DEADLINE_MARGIN_S = 600;

/** User and group where a namespace refuses root, and nobody said who else. */
const RESTRICTED_ID = 1000;

/** What the containers of services are called, in the order of the services, whose host names these are. */
export function containerNames(services: readonly Pick<PodService, "names">[]): string[] {
  const taken = new Set(["build", "helper"]);
  return services.map(({ names }, index) => {
    const name = names.find((one) => isDnsLabel(one) && !taken.has(one)) ?? `svc-${index}`;
    taken.add(name);
    return name;
  });
}

export function podOf(parts: PodParts): Record<string, unknown> {
  const { settings, chosen, request, unique, owner } = parts;
  const foreign = Object.entries(chosen.labels).filter(([key]) => !isReserved(key));
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: parts.name,
      labels: {
        ...Object.fromEntries(foreign.map(([key, value]) => [key, labelValue(value)])),
        ...knownLabels(request, unique),
        ...ownLabels(owner, request.jobKey, "job"),
      },
      annotations: { ...knownAnnotations(request), ...chosen.annotations },
    },
    spec: filled({
      restartPolicy: "Never",
      enableServiceLinks: false,
      automountServiceAccountToken:
        settings.automountServiceAccountToken ?? (chosen.serviceAccount === undefined ? false : undefined),
      serviceAccountName: chosen.serviceAccount,
      activeDeadlineSeconds: Math.ceil(request.job.timeoutMs / 1000) + DEADLINE_MARGIN_S,
      terminationGracePeriodSeconds: settings.graceSeconds,
      hostAliases: listed(hostAliasesOf(parts)),
      nodeSelector: Object.keys(chosen.nodeSelector).length === 0 ? undefined : chosen.nodeSelector,
      tolerations: listed(chosen.tolerations),
      affinity: settings.affinity,
      priorityClassName: settings.priorityClassName,
      schedulerName: settings.schedulerName,
      runtimeClassName: settings.runtimeClassName,
      dnsPolicy: settings.dnsPolicy,
      dnsConfig: settings.dnsConfig,
      securityContext: podSecurity(parts),
      resources: resourcesOf(chosen.resources, "pod_"),
      imagePullSecrets: settings.useServiceAccountImagePullSecrets
        ? undefined
        : listed(
            [...parts.pullSecrets, ...(parts.loginSecret === null ? [] : [parts.loginSecret])].map((name) => ({
              name,
            })),
          ),
      volumes: volumesOf(parts),
      containers: containersOf(parts),
    }),
  };
}

function listed<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length === 0 ? undefined : list;
}

/** Services share their network with the job: all their names lead to this machine. */
function hostAliasesOf({ services, settings }: PodParts): { ip: string; hostnames: readonly string[] }[] {
  const names = services.flatMap((service) => service.names.map((name) => name.toLowerCase()).filter(isDnsSubdomain));
  return [
    ...(names.length === 0 ? [] : [{ ip: "127.0.0.1", hostnames: [...new Set(names)] }]),
    ...settings.hostAliases,
  ];
}

function podSecurity({ settings, restricted }: PodParts): Record<string, unknown> | undefined {
  const given = settings.podSecurityContext ?? {};
  return filled({
    ...(settings.privileged === true ? {} : { seccompProfile: { type: "RuntimeDefault" } }),
    ...(restricted
      ? { runAsNonRoot: true, runAsUser: RESTRICTED_ID, runAsGroup: RESTRICTED_ID, fsGroup: RESTRICTED_ID }
      : {}),
    ...given,
  });
}

/** Capabilities start with NET_RAW dropped, as GitLab Runner does; what is dropped wins over what is added. */
function capabilitiesOf({ settings, restricted }: PodParts): { add?: readonly string[]; drop?: readonly string[] } {
  const plain = (name: string): string => name.toUpperCase().replace(/^CAP_/, "");
  const drop = new Set(settings.capDrop.map(plain));
  const add = settings.capAdd.map(plain).filter((name) => !drop.has(name));
  if (!add.includes("NET_RAW")) drop.add("NET_RAW");
  if (restricted) return { drop: ["ALL"] };
  return { ...(add.length === 0 ? {} : { add }), drop: drop.has("ALL") ? ["ALL"] : [...drop] };
}

type Security = Partial<NonNullable<KubernetesSettings["securityContexts"]["build"]>> | undefined;

function securityOf(parts: PodParts, own: Security, user: string | null): Record<string, unknown> | undefined {
  const { settings, restricted } = parts;
  const [uid, gid] = (user ?? "").split(":");
  const pod = settings.podSecurityContext ?? {};
  const given = Object.fromEntries(Object.entries(own ?? {}).filter(([, value]) => value !== undefined));
  return filled({
    privileged: settings.privileged,
    allowPrivilegeEscalation: settings.allowPrivilegeEscalation ?? (restricted ? false : undefined),
    runAsUser: pod.runAsUser === undefined && /^\d+$/.test(uid ?? "") ? Number(uid) : undefined,
    runAsGroup: pod.runAsGroup === undefined && /^\d+$/.test(gid ?? "") ? Number(gid) : undefined,
    ...given,
    capabilities:
      settings.privileged === true ? given.capabilities : { ...capabilitiesOf(parts), ...own?.capabilities },
  });
}

function resourcesOf(amounts: ReadonlyMap<string, Quantity>, kind: ResourceKind): Record<string, unknown> | undefined {
  const side = (name: (typeof SIDES)[number]): Record<string, unknown> | undefined =>
    filled(
      Object.fromEntries(
        RESOURCES.map((resource) => [resource.replaceAll("_", "-"), amounts.get(`${kind}${resource}_${name}`)?.text]),
      ),
    );
  return filled({ limits: side("limit"), requests: side("request") });
}

const RUN_VOLUME = "alloy-runner";
const BUILDS_VOLUME = "builds";

function volumesOf({ mounts, covered }: PodParts): Record<string, unknown>[] {
  const named = new Map(mounts.map(({ name, source }) => [name, { name, ...source }]));
  return [
    { name: RUN_VOLUME, emptyDir: {} },
    ...(covered ? [] : [{ name: BUILDS_VOLUME, emptyDir: {} }]),
    ...named.values(),
  ];
}

function mountsOf({ mounts, covered, places }: PodParts, secret: boolean): Record<string, unknown>[] {
  return [
    ...(secret ? [{ name: RUN_VOLUME, mountPath: RUN_DIR }] : []),
    ...(covered ? [] : [{ name: BUILDS_VOLUME, mountPath: places.buildsDir }]),
    ...mounts.map(
      ({ name, mountPath, subPath, readOnly, mountPropagation }) =>
        filled({ name, mountPath, subPath, readOnly: readOnly || undefined, mountPropagation }) ?? {},
    ),
  ];
}

/** An empty entrypoint, or one of empty words, means that the job wants none. */
export function entrypointOf(entrypoint: readonly string[] | null): readonly string[] | null {
  return entrypoint?.some((word) => word !== "") === true ? entrypoint : null;
}

function containersOf(parts: PodParts): Record<string, unknown>[] {
  const { build, helper, services, settings, chosen, places } = parts;
  const common = { terminationMessagePolicy: "FallbackToLogsOnError", lifecycle: settings.lifecycle };
  const { build: ofBuild, helper: ofHelper, service: ofService } = settings.securityContexts;
  const entrypoint = entrypointOf(build.entrypoint);
  const idle = idleArgv(build.shell, entrypoint !== null);
  return [
    filled({
      name: "build",
      image: build.name,
      imagePullPolicy: build.pull,
      command: entrypoint ?? idle,
      args: entrypoint === null ? undefined : idle,
      env: gitTrustVariables(places.root),
      resources: resourcesOf(chosen.resources, ""),
      securityContext: securityOf(parts, ofBuild, build.user),
      volumeMounts: mountsOf(parts, true),
      ...common,
    }) ?? {},
    ...(helper === null
      ? []
      : [
          filled({
            name: "helper",
            image: helper.name,
            imagePullPolicy: helper.pull,
            command: idleArgv(helper.shell),
            env: gitTrustVariables(places.root),
            resources: resourcesOf(chosen.resources, "helper_"),
            securityContext: securityOf(parts, { ...userOf(ofBuild, parts), ...filled(ofHelper ?? {}) }, null),
            volumeMounts: mountsOf(parts, true),
            ...common,
          }) ?? {},
        ]),
    ...services.map(
      (service) =>
        filled({
          name: service.container,
          image: service.wanted.name,
          imagePullPolicy: service.pull,
          command: listed(service.wanted.entrypoint ?? []),
          args: listed(service.wanted.command ?? []),
          env: service.env.map(envOf),
          resources: resourcesOf(chooseForService(settings, chosen, service.wanted.variables), "service_"),
          securityContext: securityOf(parts, ofService, service.wanted.user),
          volumeMounts: mountsOf(parts, false),
          ...common,
        }) ?? {},
    ),
  ];
}

/** If the user of the scripts is known, the helper runs as that user, too, and so the checkout belongs to it. */
function userOf(build: Security, { settings, build: { user } }: PodParts): Security {
  const pod = settings.podSecurityContext ?? {};
  const [uid, gid] = (user ?? "").split(":");
  const asked = (text: string | undefined, fixed: unknown): number | undefined =>
    fixed === undefined && /^\d+$/.test(text ?? "") ? Number(text) : undefined;
  return {
    runAsUser: build?.runAsUser ?? asked(uid, pod.runAsUser),
    runAsGroup: build?.runAsGroup ?? asked(gid, pod.runAsGroup),
  };
}

/** The cluster replaces `$(NAME)` in values, and takes `$$` for a `$` that it leaves alone. */
function envOf(text: string): { name: string; value: string } {
  const split = text.indexOf("=");
  return { name: text.slice(0, split), value: text.slice(split + 1).replaceAll("$", "$$$$") };
}
