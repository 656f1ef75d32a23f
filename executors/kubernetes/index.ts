import { describeError } from "../../src/errors.ts";
import type { ExecutorDeps } from "../../src/executor/deps.ts";
import type { Environment } from "../../src/executor/environment.ts";
import { defineExecutor, type Executor } from "../../src/executor/executor.ts";
import type { AdoptRequest, Note, Notes, PrepareRequest } from "../../src/executor/prepare.ts";
import type { ShellName } from "../../src/shell.ts";
import { never, unlessAborted } from "../../src/time.ts";
import { handingOver } from "../common/hand-over.ts";
import { createOutlook } from "../common/outlook.ts";
import { ownImageAsService } from "../images/own-image.ts";
import { openAccess } from "./access/access.ts";
import { ApiFailure } from "./api/status.ts";
import { within } from "./clean-up/clean-up.ts";
import { recoverJob } from "./clean-up/recover.ts";
import { createSweeper } from "./clean-up/sweep.ts";
import { createAdmission } from "./job/admission.ts";
import { type Cluster, connectCluster, locationOf } from "./job/cluster.ts";
import { readHandle } from "./job/handle.ts";
import { prepareJob } from "./job/prepare.ts";
import { createSlots, createStay } from "./job/stay.ts";
import { buildDirsAreApart } from "./pod/places.ts";
import { choose } from "./settings/overwrites.ts";
import type { KubernetesSettings } from "./settings/settings.ts";
import { checkedTable, settingsOf } from "./settings/table.ts";
import { words } from "./words.ts";

const SHELLS = ["bash", "sh"] as const satisfies readonly ShellName[];

/** The API server may be far away, and its answer may pass through a cloud's gateways. */
const LOOKS = { freshMs: 5000, staleMs: 30_000, limitMs: 10_000 };
const UNDO_MS = 60_000;
/** As long as a script may run whose pod nobody hears of. */
const ADOPT_MS = 300_000;
const NOT_DURABLE =
  "A restart of the runner ends this job: it logs in to the cluster with a token of its own (KUBERNETES_BEARER_TOKEN)";
/** For this long after the public helper image could not be pulled, jobs do not try it again. */
const REST_MS = 600_000;

function createKubernetesExecutor(settings: KubernetesSettings, deps: ExecutorDeps): Executor {
  const { log, entry } = deps;
  const sweeper = createSweeper(settings.cleanupGraceSeconds, log, deps.host.isKept);
  const slots = createSlots();
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
    const slot = slots.take(request);
    const leave = (): void => {
      slot.free();
      if (ownConnections.delete(found)) void found.close();
    };
    const stay = createStay({ cluster: found, namespace, jobKey: request.jobKey, settings, sweeper, leave });
    const lasting = entry.durable === true && entry.ephemeral !== true;
    // With a token of the job's own, nobody else could log in.
    if (lasting && !shared) notes.print(NOT_DURABLE, "warning");
    try {
      await sweeper.settle(request.jobKey, settings.volumes.length > 0 ? Infinity : 0, signal);
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
          stay,
          lasting: lasting && shared,
        },
        notes,
        signal,
      );
    } catch (error) {
      outlook.doubt();
      await within(UNDO_MS, never, stay.destroy).catch((cause: unknown) => {
        log.warn("What was prepared for a job could not be removed", { problem: describeError(cause) });
      });
      // The API may still carry out a request that was given up.
      if (signal.aborted && shared) sweeper.suspect({ api, namespace }, request.jobKey);
      throw error;
    }
  };

  const adopt = async (request: AdoptRequest, handle: Note, signal: AbortSignal): Promise<Environment> => {
    const known = readHandle(handle);
    const found = await cluster(signal);
    const slot = slots.retake(request, known.slot);
    const { namespace } = known;
    const stay = createStay({ cluster: found, namespace, jobKey: request.jobKey, settings, sweeper, leave: slot.free });
    try {
      const { adoptJob } = await import("./job/adopt.ts");
      return await adoptJob({ cluster: found, settings, deps, request, stay, known, handle }, signal);
    } catch (error) {
      stay.letGo();
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
    adopt,
    adoptMs: ADOPT_MS,
    diagnose: async (_, signal) => {
      const { checkRights, namespace, server } = await cluster(signal);
      await checkRights(namespace, signal);
      return { state: `${server} gives the rights that jobs in the namespace ${namespace} need` };
    },
    recover: async (jobKey, notes, signal) => await recoverJob({ cluster, settings, sweeper }, jobKey, notes, signal),
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
  canOutlive: "runner",
  // Without a table, after a crash whose entry is gone from the configuration, the cluster is where it is by default.
  create: ({ kubernetes }, deps) => createKubernetesExecutor(settingsOf(kubernetes), deps),
});
