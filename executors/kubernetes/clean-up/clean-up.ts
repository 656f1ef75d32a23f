import { Stop } from "../../../src/errors.ts";
import { deadline, pause } from "../../../src/time.ts";
import type { Api } from "../api/client.ts";
import { deleteObject, listLabelled, podsPath, secretsPath } from "../api/pods.ts";
import { ApiFailure } from "../api/status.ts";
import { LABELS, type Owner } from "../pod/labels.ts";

export interface Removed {
  readonly pods: number;
  readonly secrets: number;
}

export interface CleanUpOptions {
  readonly api: Api;
  readonly namespace: string;
  readonly jobKey: string;
  readonly graceSeconds: number;
  /** Until the pods are no more, not only told to end. */
  readonly wait: boolean;
}

const LOOK_MS = 300;

/** Remove all that one job has in a namespace, and nothing else. */
export async function cleanUpJob(options: CleanUpOptions, signal: AbortSignal): Promise<Removed> {
  const { api, namespace, jobKey, graceSeconds, wait } = options;
  const labels = { [LABELS.jobKey]: jobKey };
  const list = async (): Promise<readonly { name: string; uid: string }[]> => {
    const { items } = await listLabelled(api, "look for the job's pods", podsPath(namespace), labels, signal);
    return items.map(({ metadata: { name, uid } }) => ({ name, uid }));
  };
  const pods = await list();
  for (const { name, uid } of pods) {
    const what = `delete the pod ${name}`;
    await deleteObject(api, { what, path: podsPath(namespace, name), uid, graceSeconds }, signal);
  }
  const secrets = await removeSecrets(api, namespace, labels, signal);
  while (wait && (await list()).length > 0) await pause(LOOK_MS, signal);
  return { pods: pods.length, secrets };
}

/** Who may not list secrets has made none, or they go with their pods. */
async function removeSecrets(
  api: Api,
  namespace: string,
  labels: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<number> {
  try {
    const { items } = await listLabelled(api, "look for the job's secrets", secretsPath(namespace), labels, signal);
    for (const { metadata } of items) {
      const path = secretsPath(namespace, metadata.name);
      await deleteObject(api, { what: `delete the secret ${metadata.name}`, path, uid: metadata.uid }, signal);
    }
    return items.length;
  } catch (error) {
    if (error instanceof ApiFailure && error.status === 403) return 0;
    throw error;
  }
}

/** Younger ones may be another's who is just about to tell of them. */
const MIN_AGE_MS = 120_000;

/** Keys of jobs whose pods are there, of this installation, and of a process that is not this one. */
export async function abandonedJobs(api: Api, namespace: string, owner: Owner, signal: AbortSignal): Promise<string[]> {
  const labels = { [LABELS.installation]: owner.installation };
  const { items } = await listLabelled(api, "look for abandoned pods", podsPath(namespace), labels, signal);
  const keys = items.flatMap(({ metadata }) => {
    const { labels: its, creationTimestamp } = metadata;
    const key = its?.[LABELS.jobKey];
    const isOld = Date.now() - Date.parse(creationTimestamp ?? "") > MIN_AGE_MS;
    return key === undefined || its?.[LABELS.process] === owner.process || !isOld ? [] : [key];
  });
  return [...new Set(keys)];
}

/** Removal of what was half made, which no signal of the job's may cut short. */
export async function within<T>(
  ms: number,
  parent: AbortSignal,
  body: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  using limit = deadline(parent, ms, new Stop("timed_out", `clean-up took longer than ${ms / 1000} s`));
  return await body(limit.signal);
}
