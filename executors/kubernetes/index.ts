import { z } from "zod";
import { describeError } from "../../src/errors.ts";
import type { ExecutorDeps } from "../../src/executor/deps.ts";
import type { Environment } from "../../src/executor/environment.ts";
import { defineExecutor, type Executor } from "../../src/executor/executor.ts";
import type { Notes, PrepareRequest } from "../../src/executor/prepare.ts";
import type { ShellName } from "../../src/shell.ts";
import { never, unlessAborted } from "../../src/time.ts";
import { handingOver } from "../common/hand-over.ts";
import { createOutlook } from "../common/outlook.ts";
import { ownImageAsService } from "../images/own-image.ts";
import { openAccess } from "./access/access.ts";
import { podsPath } from "./api/pods.ts";
import { ApiFailure } from "./api/status.ts";
import type { PodView } from "./api/watch.ts";
import { cleanUpJob, within } from "./clean-up/clean-up.ts";
import { isProven } from "./clean-up/ownership.ts";
import { createSweeper } from "./clean-up/sweep.ts";
import { createAdmission } from "./job/admission.ts";
import { type Cluster, connectCluster, locationOf } from "./job/cluster.ts";
import { prepareJob } from "./job/prepare.ts";
import { buildDirsAreApart } from "./pod/places.ts";
import { choose } from "./settings/overwrites.ts";
import type { KubernetesSettings } from "./settings/settings.ts";
import { checkedTable, settingsOf } from "./settings/table.ts";
import { words } from "./words.ts";

const SHELLS = ["bash", "sh"] as const satisfies readonly ShellName[];

/** What a dead runner's job has left behind, and where. */
const noteSchema = z.object({
  kind: z.literal("kubernetes-job"),
  server: z.string(),
  namespace: z.string(),
  /** In whose name the job was; older notes do not say it. */
  installation: z.string().optional(),
});

/** The API server may be far away, and its answer may pass through a cloud's gateways. */
const LOOKS = { freshMs: 5000, staleMs: 30_000, limitMs: 10_000 };
const UNDO_MS = 60_000;
/** All jobs that died with the runner are reported within a minute; a node that does not answer must not hold that up. */
const RECOVERY_WAIT_MS = 20_000;
/** For this long after the public helper image could not be pulled, jobs do not try it again. */
const REST_MS = 600_000;

function createKubernetesExecutor(settings: KubernetesSettings, deps: ExecutorDeps): Executor {
  const { log, entry } = deps;
  const sweeper = createSweeper(settings.cleanupGraceSeconds, log);
  const slots = new Map<string, Set<number>>();
  /** Connections of jobs that log in with a token of their own, until nothing of these jobs is left. */
  const ownConnections = new Set<Cluster>();
  let missing: { readonly until: number; readonly why: string } | null = null;

  // Asked for anew after a failure: the cluster may come up, or the kubeconfig may be mended, while the runner runs.
  let finding: Promise<Cluster> | null = null;
  const cluster = (signal: AbortSignal): Promise<Cluster> => {
    if (finding === null) {
      // All jobs that wait for the connection share it, so the end of one job must not end the attempt.
      const found = connectCluster(settings, settings.connection, deps, never);
      finding = found;
      found.catch(() => {
        if (finding === found) finding = null;
      });
    }
    return unlessAborted(finding, signal);
  };

  const takeSlot = ({ runnerId, job }: PrepareRequest): { readonly number: number; free(): void } => {
    const key = `${runnerId}/${job.projectId}`;
    const taken = slots.get(key) ?? new Set();
    slots.set(key, taken);
    let number = 0;
    while (taken.has(number)) number++;
    taken.add(number);
    let held = true;
    return {
      number,
      free: () => {
        if (!held) return;
        held = false;
        taken.delete(number);
        if (taken.size === 0 && slots.get(key) === taken) slots.delete(key);
      },
    };
  };

  const prepare = async (request: PrepareRequest, notes: Notes, signal: AbortSignal): Promise<Environment> => {
    const chosen = choose(settings, request);
    const { bearerToken } = chosen;
    const shared = bearerToken === undefined;
    if (bearerToken !== undefined) request.hide?.([bearerToken]);
    const found = shared
      ? await cluster(signal)
      : await connectCluster(settings, withToken(settings.connection, bearerToken), deps, signal);
    if (!shared) ownConnections.add(found);
    const namespace = chosen.namespace ?? found.namespace;
    const { api } = found;
    const views: PodView[] = [];
    const slot = takeSlot(request);
    let pod = "";
    let work: Promise<void> | null = null;
    const leave = (): void => {
      slot.free();
      if (ownConnections.delete(found)) void found.close();
    };
    const remove = async (until: AbortSignal): Promise<void> => {
      const { jobKey } = request;
      const graceSeconds = settings.cleanupGraceSeconds;
      // Where other jobs get the same directory, nothing of this one may write to it any more.
      const waitMs = settings.volumes.length > 0 ? Infinity : 0;
      try {
        await within(settings.cleanupLimitMs, until, (limit) =>
          cleanUpJob({ api, namespace, jobKey, graceSeconds, waitMs, ...(pod === "" ? {} : { pod }) }, limit),
        );
      } catch (error) {
        work = null;
        // Something of it may still run in the builds directory: nobody else gets that meanwhile.
        sweeper.suspect({ api, namespace }, jobKey, leave);
        throw error;
      } finally {
        for (const view of views) view.close();
      }
      leave();
    };
    const destroy = (until: AbortSignal): Promise<void> => {
      work ??= remove(until);
      return work;
    };
    const kill = async (): Promise<void> => {
      const call = { what: `end the pod ${pod}`, method: "DELETE", path: podsPath(namespace, pod) } as const;
      const body = { apiVersion: "v1", kind: "DeleteOptions", gracePeriodSeconds: 1 };
      await within(UNDO_MS, never, (limit) => api.call({ ...call, body }, limit));
    };
    try {
      await found.checkRights(namespace, signal);
      const { owner, alone } = await found.ownership(namespace, signal);
      if (shared && alone) sweeper.look({ api, namespace }, owner);
      const { installation } = owner;
      await request.remember({ kind: "kubernetes-job", server: found.server, namespace, installation });
      return await prepareJob(
        {
          cluster: found,
          namespace,
          owner,
          settings,
          deps,
          request,
          slot: slot.number,
          chosen,
          helperMissing: missing !== null && performance.now() < missing.until ? missing.why : null,
          onHelperMissing: (why) => {
            missing ??= { until: performance.now() + REST_MS, why };
          },
          onPod: (name, view) => {
            pod = name;
            views.push(view);
          },
          destroy,
          kill,
        },
        notes,
        signal,
      );
    } catch (error) {
      outlook.doubt();
      await within(UNDO_MS, never, destroy).catch((cause: unknown) => {
        log.warn("What was prepared for a job could not be removed", { problem: describeError(cause) });
      });
      // The API may still carry out a request that was given up.
      if (signal.aborted && shared) sweeper.suspect({ api, namespace }, request.jobKey);
      throw error;
    }
  };

  // An entry that cannot run jobs asks for none, so that other runners take them. `exec` runs them anyway, as there is
  // no other runner.
  const admission = createAdmission(async (signal) => {
    const found = await cluster(signal);
    await found.checkRights(found.namespace, signal);
    await found.ownership(found.namespace, signal);
  }, log);

  const outlook = createOutlook({
    ...LOOKS,
    look: async (signal) => {
      const { api } = await cluster(signal);
      try {
        await api.call({ what: "ask for its version", method: "GET", path: "/version" }, signal);
      } catch (error) {
        // What a server refuses it has heard.
        if (!(error instanceof ApiFailure) || error.status < 400 || error.status >= 500) throw error;
      }
    },
  });

  const serviceImage = ownImageAsService({ ...settings, servicesLimit: null, disableEntrypointOverwrite: false });

  return handingOver({
    ready: outlook.ready,
    ...(entry.ephemeral === true ? {} : { reserve: admission.reserve }),
    name: words.name,
    title: words.title,
    features: { variables: true, image: true, services: true, shared: false, terminal: true },
    shell: entry.shell ?? "bash",
    ...(serviceImage === undefined ? {} : { serviceImage }),
    locate: async () => {
      const { env, working } = deps.host;
      return locationOf(await openAccess({ connection: settings.connection, env, working }));
    },
    prepare,
    diagnose: async (_, signal) => {
      const { checkRights, namespace, server } = await cluster(signal);
      await checkRights(namespace, signal);
      return { state: `${server} gives the rights that jobs in the namespace ${namespace} need` };
    },
    recover: async (jobKey, notes, signal) => {
      const done: string[] = [];
      const left: string[] = [];
      const places = new Map<string, z.output<typeof noteSchema>>();
      for (const note of notes) {
        const known = noteSchema.safeParse(note);
        if (known.success) places.set(JSON.stringify(known.data), known.data);
      }
      for (const { server, namespace, installation } of places.values()) {
        try {
          const found = await cluster(signal);
          if (found.server !== server) {
            left.push(`could not look after its pod in ${server}, because the entry names ${found.server} now`);
            continue;
          }
          const { api } = found;
          const { owner, alone } = await found.ownership(namespace, signal);
          if (alone && installation !== undefined && isProven(installation) && installation !== owner.installation) {
            left.push(
              `left its pod in the namespace "${namespace}" to another runner, which works with a copy of this one's state directory`,
            );
            continue;
          }
          const graceSeconds = settings.cleanupGraceSeconds;
          const { pods, staying, secrets } = await within(settings.cleanupLimitMs, signal, (limit) =>
            cleanUpJob({ api, namespace, jobKey, graceSeconds, waitMs: RECOVERY_WAIT_MS }, limit),
          );
          if (staying > 0) {
            left.push(
              `told ${pods === 1 ? "its pod" : `its ${pods} pods`} in the namespace "${namespace}" to end, which takes longer`,
            );
          } else if (pods > 0)
            done.push(`removed ${pods === 1 ? "1 pod" : `${pods} pods`} and what ran in ${pods === 1 ? "it" : "them"}`);
          else if (secrets > 0) done.push("removed its logins");
          // The API may still carry out a request that was under way when the runner died.
          sweeper.suspect({ api, namespace }, jobKey);
        } catch (error) {
          signal.throwIfAborted();
          left.push(`could not remove its pod in the namespace "${namespace}" of ${server}: ${describeError(error)}`);
        }
      }
      return { done, left };
    },
    close: async () => {
      await sweeper.close();
      for (const own of ownConnections) await own.close();
      const found = await finding?.catch(() => null);
      await found?.close();
    },
  });
}

/** The way to the cluster for whoever holds this token. With a client certificate beside it, the server goes by the certificate. */
function withToken(
  connection: KubernetesSettings["connection"],
  bearerToken: string | undefined,
): KubernetesSettings["connection"] {
  return { ...connection, certFile: undefined, keyFile: undefined, bearerToken };
}

export default defineExecutor({
  ...words,
  tables: [{ name: "kubernetes", required: true, schema: checkedTable }],
  buildDirsAreApart: ({ kubernetes }, buildsDir) => buildDirsAreApart(settingsOf(kubernetes), buildsDir),
  shells: SHELLS,
  // Without a table, after a crash whose entry is gone from the configuration, the cluster is where it is by default.
  create: ({ kubernetes }, deps) => createKubernetesExecutor(settingsOf(kubernetes), deps),
});
