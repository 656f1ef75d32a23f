import { Stop } from "../../../src/errors.ts";
import { deadline, pause } from "../../../src/time.ts";
import type { Api } from "../api/client.ts";
import { deleteObject, getPod, listLabelled, podsPath, secretsPath } from "../api/pods.ts";
import { ApiFailure } from "../api/status.ts";
import { LABELS, loginsName, type Owner } from "../pod/labels.ts";

export interface Removed {
  readonly pods: number;
  /** Of these, those that are still there. */
  readonly staying: number;
  readonly secrets: number;
}

export interface CleanUpOptions {
  readonly api: Api;
  readonly namespace: string;
  readonly jobKey: string;
  /** A pod that the job is known to have had. It is found by this name where the login may not list pods. */
  readonly pod?: string;
  readonly graceSeconds: number;
  /** How long to wait until the pods that were told to end are gone. */
  readonly waitMs: number;
}

const LOOK_MS = 300;

/** Remove all that one job has in a namespace, and nothing else. */
export async function cleanUpJob(options: CleanUpOptions, signal: AbortSignal): Promise<Removed> {
  const { api, namespace, jobKey, graceSeconds, waitMs } = options;
  const pods = await podsOf(options, signal);
  for (const { name, uid } of pods) {
    const what = `delete the pod ${name}`;
    await deleteObject(api, { what, path: podsPath(namespace, name), uid, graceSeconds }, signal);
  }
  const secrets = (await removeLogins(api, namespace, jobKey, signal)) ? 1 : 0;
  const until = performance.now() + waitMs;
  let staying = pods.length;
  while (staying > 0 && performance.now() < until) {
    staying = (await podsOf(options, signal)).length;
    if (staying > 0) await pause(LOOK_MS, signal);
  }
  return { pods: pods.length, staying, secrets };
}

interface Named {
  readonly name: string;
  readonly uid: string;
}

async function podsOf({ api, namespace, jobKey, pod }: CleanUpOptions, signal: AbortSignal): Promise<readonly Named[]> {
  try {
    const labels = { [LABELS.jobKey]: jobKey };
    const { items } = await listLabelled(api, "look for the job's pods", podsPath(namespace), labels, signal);
    return items.map(({ metadata: { name, uid } }) => ({ name, uid }));
  } catch (error) {
    if (!(error instanceof ApiFailure) || error.status !== 403 || pod === undefined) throw error;
    const found = await getPod(api, namespace, pod, signal);
    return found === null ? [] : [found.metadata];
  }
}

/** A login that may not list or delete secrets has made none, or they go with their pods. */
async function unlessForbidden<T>(asking: Promise<T>): Promise<T | null> {
  try {
    return await asking;
  } catch (error) {
    if (error instanceof ApiFailure && error.status === 403) return null;
    throw error;
  }
}

/** The secret is found by its name, as a login that may delete secrets need not be one that may list them. */
async function removeLogins(api: Api, namespace: string, jobKey: string, signal: AbortSignal): Promise<boolean> {
  const path = secretsPath(namespace, loginsName(jobKey));
  const what = "delete the job's logins";
  return (await unlessForbidden(deleteObject(api, { what, path, uid: null }, signal))) ?? false;
}

/** Keys of jobs of this installation whose pods or secrets are there, made by a process that is not this one. */
export async function abandonedJobs(api: Api, namespace: string, owner: Owner, signal: AbortSignal): Promise<string[]> {
  const labels = { [LABELS.installation]: owner.installation };
  const pods = await listLabelled(api, "look for abandoned pods", podsPath(namespace), labels, signal);
  const secrets = await unlessForbidden(
    listLabelled(api, "look for abandoned secrets", secretsPath(namespace), labels, signal),
  );
  const keys = [...pods.items, ...(secrets?.items ?? [])].flatMap(({ metadata }) => {
    const key = metadata.labels?.[LABELS.jobKey];
    return key === undefined || metadata.labels?.[LABELS.process] === owner.process ? [] : [key];
  });
  return [...new Set(keys)];
}

/** Removes what is half made within a time limit; no signal of the job may cut that short. */
export async function within<T>(
  ms: number,
  parent: AbortSignal,
  body: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  using limit = deadline(parent, ms, new Stop("timed_out", `clean-up took longer than ${ms / 1000} s`));
  return await body(limit.signal);
}
