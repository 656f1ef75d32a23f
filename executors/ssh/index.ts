import { z } from "zod";
import { describeError, Stop, SystemFailure } from "../../src/errors.ts";
import type { ExecutorDeps } from "../../src/executor/deps.ts";
import type { Environment } from "../../src/executor/environment.ts";
import { defineExecutor, type Executor, type Recovered } from "../../src/executor/executor.ts";
import type { AdoptRequest, Note, Notes, PrepareRequest } from "../../src/executor/prepare.ts";
import type { ShellName } from "../../src/shell.ts";
import { deadline } from "../../src/time.ts";
import { handingOver } from "../common/hand-over.ts";
import { createOutlook } from "../common/outlook.ts";
import type { RemoteCommands } from "../remote/index.ts";
import { sshCommands } from "./connection/commands.ts";
import { connectSsh, nameOf, type SshConnection } from "./connection/connection.ts";
import { createSessionLimit } from "./connection/session-limit.ts";
import { adoptOverSsh, jobOverSsh, type OverSshOptions } from "./over-ssh.ts";
import { type SshSettings, sshComplaint, sshSettings, sshTable } from "./settings.ts";
import { words } from "./words.ts";
import { obstacleToLasting } from "./working-copy/can-last.ts";
import type { Claim } from "./working-copy/claim.ts";
import { createKeptCopies } from "./working-copy/kept-copies.ts";
import { withinLease } from "./working-copy/lasting-claim.ts";
import { cleanUpAfter } from "./working-copy/recovery.ts";
import { DEFAULT_BUILDS_DIR, leaseOf } from "./working-copy/working-copy.ts";

const SHELLS = ["bash", "sh", "pwsh"] as const satisfies readonly ShellName[];

/** What a dead runner's job has left behind, and where. */
const noteSchema = z.object({
  kind: z.literal("ssh-job"),
  host: z.string(),
  port: z.number(),
  user: z.string(),
  buildsDir: z.string(),
  runnerId: z.string(),
});

/** By which the next process finds a job's place. */
const handleSchema = z.object({
  kind: z.literal("ssh-place"),
  host: z.string(),
  port: z.number(),
  user: z.string(),
  root: z.string(),
  claim: z.string(),
  shell: z.enum(SHELLS),
});

/** How long a host may be away before a job that was meant for it fails: the coordinator's job waits, too. */
const PATIENCE_MS = 10_000;
/** Each look is a login, which the host writes down, and some count those that fail. */
const LOOKS = { freshMs: 300_000, staleMs: 600_000, againMs: 30_000, limitMs: 15_000 };
/** After a crash or a cut: long enough for a host that starts anew, unless `connect_timeout` is shorter. */
const CLEAN_UP_MS = 30_000;

function createSshExecutor(settings: SshSettings, deps: ExecutorDeps): Executor {
  const { log, entry } = deps;
  const { killGraceMs, ephemeral = false, buildsDir = DEFAULT_BUILDS_DIR } = entry;
  const logins = createSessionLimit(settings.maxStartups);
  const target = nameOf(settings);
  const leaseMs = leaseOf(deps);
  const location = { at: "host", host: settings.host } as const;
  const kept = createKeptCopies(deps.host.keepDir, target);
  const cleanUpMs = Math.min(CLEAN_UP_MS, settings.connectTimeoutMs);

  const connect = async (patienceMs: number, signal: AbortSignal): Promise<SshConnection> => {
    const login = await logins.take(signal);
    try {
      return await connectSsh(settings, { log, patienceMs }, signal);
    } finally {
      login.free();
    }
  };

  /** Cleans up over a connection of its own, or by `commands`. */
  const cleanUp = async (
    jobKey: string,
    place: { buildsDir: string; runnerId: string },
    commands: RemoteCommands | null,
    signal: AbortSignal,
  ): Promise<Recovered> => {
    const dead = { ...place, jobKey, killGraceMs, ephemeral, host: target };
    if (commands !== null) return await cleanUpAfter(commands, dead, signal);
    const connection = await connect(cleanUpMs, signal);
    try {
      return await cleanUpAfter(sshCommands(connection), dead, signal);
    } finally {
      connection.close();
    }
  };

  const outlook = createOutlook({
    ...LOOKS,
    look: async (signal) => (await connect(0, signal)).close(),
  });

  const without = (shell: ShellName): string => `${target} has no ${shell}. Install it there`;
  /** What is the same for a job that begins and for one that goes on. */
  const way = (jobKey: string, runnerId: string) => ({
    deps,
    host: target,
    location,
    without,
    ...(ephemeral ? {} : ({ keepsFiles: true } as const)),
    connect: (until: AbortSignal) => connect(PATIENCE_MS, until),
    cleanUp: async (by: RemoteCommands | null, until: AbortSignal): Promise<void> => {
      const { done, left } = await cleanUp(jobKey, { buildsDir, runnerId }, by, until);
      const said = [...done, ...left].join(", ");
      if (said !== "") log.info("cleaned up what a job had left", { host: target, result: said });
    },
  });

  const adopt = async (request: AdoptRequest, handle: Note, signal: AbortSignal): Promise<Environment> => {
    const { host, port, user } = settings;
    const known = handleSchema.safeParse(handle);
    if (!known.success) throw new SystemFailure("the place of the job on its host cannot be read");
    const there = known.data;
    if (there.host !== host || there.port !== port || there.user !== user) {
      throw new SystemFailure(`the job is on ${nameOf({ ...settings, ...there })}, and the entry names ${target} now`);
    }
    const { jobKey, runnerId } = request;
    const { root, shell, claim: ownDir } = there;
    const connection = await withinLease({ leaseMs, host: target }, () => connect(PATIENCE_MS, signal), signal);
    const { environment } = await adoptOverSsh(
      { ...way(jobKey, runnerId), request, connection, ownDir, root, shell, handle },
      signal,
    );
    return environment;
  };

  const prepare = async (request: PrepareRequest, notes: Notes, signal: AbortSignal): Promise<Environment> => {
    const { jobKey, runnerId } = request;
    const { host, port, user } = settings;
    let claimed: Claim | null = null;
    const options: OverSshOptions = {
      ...way(jobKey, runnerId),
      request,
      notes,
      ephemeral,
      onClaimed: (claim) => {
        claimed = claim;
        if (!ephemeral) kept.used(runnerId, claim);
      },
      connection: await connect(PATIENCE_MS, signal),
      begin: () => request.remember({ kind: "ssh-job", host, port, user, buildsDir, runnerId }),
      handleOf: ({ claim, shell }) => {
        const { root, ownDir } = claim;
        return { kind: "ssh-place", host, port, user, root, claim: ownDir, shell };
      },
      ready: async ({ tools }) => {
        if (tools.programs.has("git")) return;
        notes.print(
          `${target} has no git, or its profiles do not name where: without it there are no sources`,
          "warning",
        );
      },
    };
    const { environment } = await jobOverSsh(options, signal);
    if (ephemeral) return environment;
    return {
      ...environment,
      destroy: async (until) => {
        if (claimed !== null) kept.used(runnerId, claimed);
        await environment.destroy(until);
      },
    };
  };

  return handingOver({
    name: words.name,
    title: words.title,
    features: { variables: true, image: false, services: false, shared: true, terminal: true },
    shell: entry.shell ?? "bash",
    location,
    ready: outlook.ready,
    prepare: async (request, notes, signal) => {
      if (settings.hostKeys.any && settings.hostKeys.fingerprints.length === 0) {
        notes.print(`The host key of ${target} is not checked (disable_strict_host_key_checking)`, "warning");
      }
      try {
        return await prepare(request, notes, signal);
      } catch (error) {
        outlook.doubt();
        throw error;
      }
    },
    adopt,
    adoptMs: leaseMs + CLEAN_UP_MS,
    tidy: (budgets, { dry }, signal) =>
      kept.tidy(
        {
          budgets,
          dry,
          within: async (work) => {
            const connection = await connect(0, signal);
            try {
              return await work(sshCommands(connection));
            } finally {
              connection.close();
            }
          },
        },
        signal,
      ),
    diagnose: async (_, signal) => {
      const connection = await connect(0, signal);
      try {
        const state = `${target} lets it log in`;
        if (entry.durable !== true) return { state };
        const obstacle = await obstacleToLasting(sshCommands(connection), target, signal);
        if (obstacle === null) return { state: `${state}, and jobs outlive their connection there` };
        const cause = `a lost connection ends its jobs, and so does a restart of the runner: ${obstacle.why}`;
        return { state, doubts: [{ cause, remedy: obstacle.remedy }] };
      } finally {
        connection.close();
      }
    },
    recover: async (jobKey, notes, signal) => {
      // A job that was prepared twice has two notes of the same place.
      const places = new Map<string, z.infer<typeof noteSchema>>();
      for (const note of notes) {
        const known = noteSchema.safeParse(note);
        if (known.success) places.set(JSON.stringify(known.data), known.data);
        else if (note.kind !== "crash")
          log.warn("A note of a dead job is not one of the ssh executor", { note: describeNote(note) });
      }
      const done: string[] = [];
      const left: string[] = [];
      for (const place of places.values()) {
        const there = nameOf({ ...settings, ...place });
        if (place.host !== settings.host || place.port !== settings.port || place.user !== settings.user) {
          left.push(`could not look after what it left on ${there}, because the entry names ${target} now`);
          continue;
        }
        const tooLong = new Stop("timed_out", `no answer within ${(2 * cleanUpMs) / 1000} s`);
        using limit = deadline(signal, 2 * cleanUpMs, tooLong);
        try {
          const recovered = await cleanUp(jobKey, place, null, limit.signal);
          done.push(...recovered.done);
          left.push(...recovered.left);
        } catch (error) {
          signal.throwIfAborted();
          left.push(`could not look after what it left on ${there}: ${describeError(error)}`);
        }
      }
      return { done, left };
    },
    close: () => kept.close().catch(() => {}),
  });
}

function describeNote(note: Note): string {
  return String(note.kind ?? "unknown");
}

export default defineExecutor({
  ...words,
  tables: [{ name: "ssh", required: true, schema: sshTable }],
  shells: SHELLS,
  canOutlive: "runner",
  check: (tables) => {
    const table = sshTable.safeParse(tables.ssh);
    return table.success ? sshComplaint(table.data) : null;
  },
  create: (tables, deps) => {
    const { working, env } = deps.host;
    const settings = sshSettings(sshTable.parse(tables.ssh), { workingDirectory: working, environment: env });
    return createSshExecutor(settings, deps);
  },
});
