import type { Writable } from "node:stream";
import { z } from "zod";
import { describeError, Stop } from "../../src/errors.ts";
import {
  defineExecutor,
  type Executor,
  type ExecutorDeps,
  type Note,
  type PrepareRequest,
} from "../../src/executor.ts";
import type { ShellName } from "../../src/shell.ts";
import { deadline } from "../../src/time.ts";
import { handingOver } from "../common/hand-over.ts";
import type { RemoteCommands } from "../remote/index.ts";
import { sshCommands } from "./connection/commands.ts";
import { connectSsh, nameOf, type SshConnection } from "./connection/connection.ts";
import { createSessionLimit } from "./connection/session-limit.ts";
import { jobOverSsh, type OverSshOptions } from "./over-ssh.ts";
import { type SshSettings, sshComplaint, sshSettings, sshTable } from "./settings.ts";
import { words } from "./words.ts";
import { cleanUpAfter } from "./working-copy/recovery.ts";
import { DEFAULT_BUILDS_DIR } from "./working-copy/working-copy.ts";

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

/** How long a host may be away before a job that was meant for it fails: the coordinator's job waits, too. */
const PATIENCE_MS = 10_000;
/** After a crash or a cut: long enough for a host that starts anew, unless `connect_timeout` is shorter. */
const CLEAN_UP_MS = 30_000;

function createSshExecutor(settings: SshSettings, deps: ExecutorDeps): Executor {
  const { log, killGraceMs, ephemeral = false } = deps;
  const buildsDir = deps.buildsDir ?? DEFAULT_BUILDS_DIR;
  const logins = createSessionLimit(settings.maxStartups);
  const target = nameOf(settings);
  const cleanUpMs = Math.min(CLEAN_UP_MS, settings.connectTimeoutMs);

  const connect = async (patienceMs: number, signal: AbortSignal): Promise<SshConnection> => {
    const login = await logins.take(signal);
    try {
      return await connectSsh(settings, { log, patienceMs }, signal);
    } finally {
      login.free();
    }
  };

  /** Over a connection of its own, or by `commands`. @returns sentences about what was there */
  const cleanUp = async (
    jobKey: string,
    place: { buildsDir: string; runnerId: string },
    commands: RemoteCommands | null,
    signal: AbortSignal,
  ): Promise<string[]> => {
    const dead = { ...place, jobKey, killGraceMs, ephemeral, host: target };
    if (commands !== null) return await cleanUpAfter(commands, dead, signal);
    const connection = await connect(cleanUpMs, signal);
    try {
      return await cleanUpAfter(sshCommands(connection), dead, signal);
    } finally {
      connection.close();
    }
  };

  const prepare = async (request: PrepareRequest, notes: Writable, signal: AbortSignal) => {
    const { jobKey, runnerId } = request;
    const { host, port, user } = settings;
    const options: OverSshOptions = {
      deps,
      request,
      ephemeral,
      host: target,
      without: (shell) => `${target} has no ${shell}. Install it there`,
      connection: await connect(PATIENCE_MS, signal),
      connect: (until) => connect(PATIENCE_MS, until),
      begin: () => request.remember({ kind: "ssh-job", host, port, user, buildsDir, runnerId }),
      ready: async ({ tools }) => {
        if (tools.programs.has("git")) return;
        notes.write(
          `WARNING: ${target} has no git, or its profiles do not name where: without it there are no sources\n`,
        );
      },
      cleanUp: async (by, until) => {
        const said = await cleanUp(jobKey, { buildsDir, runnerId }, by, until);
        if (said.length > 0) log.info("cleaned up what a job had left", { host: target, result: said.join(", ") });
      },
    };
    return (await jobOverSsh(options, signal)).environment;
  };

  return handingOver({
    name: words.name,
    title: words.title,
    features: { variables: true, image: false, services: false, shared: true },
    shell: deps.shell ?? "bash",
    location: { at: "host", host: settings.host },
    prepare: async (request, notes, signal) => {
      if (settings.hostKeys.any && settings.hostKeys.fingerprints.length === 0) {
        notes.write(`WARNING: The host key of ${target} is not checked (disable_strict_host_key_checking)\n`);
      }
      return await prepare(request, notes, signal);
    },
    recover: async (jobKey, notes, signal) => {
      // A job that was prepared twice has two notes of the same place.
      const places = new Map<string, z.infer<typeof noteSchema>>();
      for (const note of notes) {
        const known = noteSchema.safeParse(note);
        if (known.success) places.set(JSON.stringify(known.data), known.data);
        else log.warn("A note of a dead job is not one of the ssh executor", { note: describeNote(note) });
      }
      const said: string[] = [];
      for (const place of places.values()) {
        const there = nameOf({ ...settings, ...place });
        if (place.host !== settings.host || place.port !== settings.port || place.user !== settings.user) {
          said.push(`could not look after what it left on ${there}, because the entry names ${target} now`);
          continue;
        }
        const tooLong = new Stop("timed_out", `no answer within ${(2 * cleanUpMs) / 1000} s`);
        using limit = deadline(signal, 2 * cleanUpMs, tooLong);
        try {
          said.push(...(await cleanUp(jobKey, place, null, limit.signal)));
        } catch (error) {
          signal.throwIfAborted();
          said.push(`could not look after what it left on ${there}: ${describeError(error)}`);
        }
      }
      return said;
    },
    close: async () => {},
  });
}

function describeNote(note: Note): string {
  return String(note.kind ?? "unknown");
}

export default defineExecutor({
  ...words,
  tables: [{ name: "ssh", required: true, schema: sshTable }],
  shells: SHELLS,
  check: (tables) => {
    const table = sshTable.safeParse(tables.ssh);
    return table.success ? sshComplaint(table.data) : null;
  },
  create: (tables, deps) => {
    const { workingDirectory } = deps;
    const settings = sshSettings(sshTable.parse(tables.ssh), { workingDirectory, environment: process.env });
    return createSshExecutor(settings, deps);
  },
});
