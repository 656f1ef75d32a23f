import { z } from "zod";
import type { Api } from "./client.ts";
import { ApiFailure } from "./status.ts";

/** Pods as the API describes them, with the fields that the runner depends on. */

const terminated = z.object({
  exitCode: z.number().default(0),
  reason: z.string().default(""),
  message: z.string().default(""),
  finishedAt: z.string().nullish(),
});
const container = z.object({
  name: z.string(),
  ready: z.boolean().default(false),
  image: z.string().default(""),
  state: z
    .object({
      waiting: z.object({ reason: z.string().default(""), message: z.string().default("") }).nullish(),
      running: z.object({}).nullish(),
      terminated: terminated.nullish(),
    })
    .nullish(),
});
export const podSchema = z.object({
  metadata: z.object({
    name: z.string(),
    namespace: z.string().default(""),
    uid: z.string().default(""),
    resourceVersion: z.string().default(""),
    deletionTimestamp: z.string().nullish(),
    creationTimestamp: z.string().nullish(),
    labels: z.record(z.string(), z.string()).nullish(),
  }),
  spec: z.object({ nodeName: z.string().nullish() }).nullish(),
  status: z
    .object({
      phase: z.string().default("Pending"),
      reason: z.string().default(""),
      message: z.string().default(""),
      conditions: z
        .array(
          z.object({
            type: z.string(),
            status: z.string(),
            reason: z.string().default(""),
            message: z.string().default(""),
          }),
        )
        .nullish(),
      containerStatuses: z.array(container).nullish(),
    })
    .nullish(),
});
export type Pod = z.output<typeof podSchema>;
export type ContainerStatus = z.output<typeof container>;

export function podsPath(namespace: string, name?: string): string {
  const all = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`;
  return name === undefined ? all : `${all}/${encodeURIComponent(name)}`;
}

export function secretsPath(namespace: string, name?: string): string {
  const all = `/api/v1/namespaces/${encodeURIComponent(namespace)}/secrets`;
  return name === undefined ? all : `${all}/${encodeURIComponent(name)}`;
}

export function containerOf(pod: Pod, name: string): ContainerStatus | undefined {
  return pod.status?.containerStatuses?.find((one) => one.name === name);
}

/** `null`: no pod has this name. */
export async function getPod(api: Api, namespace: string, name: string, signal: AbortSignal): Promise<Pod | null> {
  try {
    const call = { what: `look at the pod ${name}`, method: "GET", path: podsPath(namespace, name) } as const;
    return await api.read(call, podSchema, signal);
  } catch (error) {
    if (error instanceof ApiFailure && error.status === 404) return null;
    throw error;
  }
}

const listSchema = z.object({
  metadata: z.object({ resourceVersion: z.string().default(""), continue: z.string().nullish() }),
  items: z.array(podSchema).nullish(),
});

export interface Listed {
  readonly items: readonly Pod[];
  readonly version: string;
}

/** Objects of one kind (pods, or others as far as they have metadata) with these labels. */
export async function listLabelled(
  api: Api,
  what: string,
  path: string,
  labels: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<Listed> {
  const items: Pod[] = [];
  let from = "";
  for (;;) {
    const query = { labelSelector: selectorOf(labels), limit: "500", ...(from === "" ? {} : { continue: from }) };
    let page: z.output<typeof listSchema>;
    try {
      page = await api.read({ what, method: "GET", path, query }, listSchema, signal);
    } catch (error) {
      if (!(error instanceof ApiFailure) || error.status !== 410 || from === "") throw error;
      // What the list went on from is forgotten: it begins anew.
      items.length = 0;
      from = "";
      continue;
    }
    items.push(...(page.items ?? []));
    from = page.metadata.continue ?? "";
    if (from === "") return { items, version: page.metadata.resourceVersion };
  }
}

export function selectorOf(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
}

/**
 * Delete one object; that it is gone already, or is another of the same name, is fine.
 * @param uid of the one that is meant; `null`: whichever has that name
 * @returns whether it was there
 */
export async function deleteObject(
  api: Api,
  { what, path, uid, graceSeconds }: { what: string; path: string; uid: string | null; graceSeconds?: number },
  signal: AbortSignal,
): Promise<boolean> {
  const body = {
    apiVersion: "v1",
    kind: "DeleteOptions",
    propagationPolicy: "Background",
    ...(graceSeconds === undefined ? {} : { gracePeriodSeconds: graceSeconds }),
    ...(uid === null || uid === "" ? {} : { preconditions: { uid } }),
  };
  try {
    await api.call({ what, method: "DELETE", path, body }, signal);
    return true;
  } catch (error) {
    if (!(error instanceof ApiFailure) || (error.status !== 404 && error.status !== 409)) throw error;
    return false;
  }
}

const eventsSchema = z.object({
  items: z
    .array(
      z.object({
        type: z.string().nullish(),
        reason: z.string().nullish(),
        message: z.string().nullish(),
        involvedObject: z.object({ fieldPath: z.string().nullish() }).nullish(),
      }),
    )
    .nullish(),
});
type Event = NonNullable<z.output<typeof eventsSchema>["items"]>[number];

/** What the cluster has told about a pod; nothing if the login may not read it. */
async function eventsAbout(api: Api, pod: Pod, selector: string, signal: AbortSignal): Promise<readonly Event[]> {
  const { name, namespace, uid } = pod.metadata;
  const query = { fieldSelector: `involvedObject.name=${name},involvedObject.uid=${uid}${selector}`, limit: "100" };
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/events`;
  try {
    return (await api.read({ what: "read events", method: "GET", path, query }, eventsSchema, signal)).items ?? [];
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof ApiFailure) return [];
    throw error;
  }
}

/** Warnings of the cluster about a pod, each once. */
export async function warningsAbout(api: Api, pod: Pod, signal: AbortSignal): Promise<string[]> {
  const events = await eventsAbout(api, pod, ",type=Warning", signal);
  return [...new Set(events.map(({ reason, message }) => `${reason ?? ""}: ${message ?? ""}`))].slice(-20);
}

/** The containers whose images the node has begun to pull, and has not got yet. */
export async function pulledFor(api: Api, pod: Pod, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const containers = new Set<string>();
  for (const { reason, involvedObject } of await eventsAbout(api, pod, "", signal)) {
    const [, name = ""] = /\{(.*)\}$/.exec(involvedObject?.fieldPath ?? "") ?? [];
    if (reason === "Pulling") containers.add(name);
    else if (reason === "Pulled") containers.delete(name);
  }
  return containers;
}

/** The end of a container's log; empty where it cannot be read. */
export async function logOf(
  api: Api,
  { namespace, pod, container }: { namespace: string; pod: string; container: string },
  signal: AbortSignal,
): Promise<string> {
  const query = { container, tailLines: "50", limitBytes: "65536" };
  try {
    const path = `${podsPath(namespace, pod)}/log`;
    const answer = await api.stream({ what: "read a log", method: "GET", path, query }, signal);
    const chunks: Buffer[] = [];
    for await (const chunk of answer) chunks.push(chunk);
    return Buffer.concat(chunks).toString("utf8");
  } catch {
    signal.throwIfAborted();
    return "";
  }
}
