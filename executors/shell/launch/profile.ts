import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { Stop } from "../../../src/errors.ts";
import type { Argv } from "../../../src/shell.ts";
import { deadline, never, pause } from "../../../src/time.ts";
import { type Cgroups, removeSoon } from "../processes/cgroup.ts";
import { enlisted } from "../processes/enlisted.ts";
import type { ProcessTable } from "../processes/process-table.ts";
import { endMembers } from "../processes/tree.ts";
import type { Launch } from "./launch.ts";

/** What a login shell's profiles change that the runner's own scripts need, too: where programs are, and proxies. */
const LEARNED = /^(PATH|(https?|ftp|all|no)_proxy)$/i;

/** Profiles are read again when a job comes after so long. */
const FRESH_MS = 5 * 60_000;
const PATIENCE_MS = 15_000;
/** What profiles start gets from SIGTERM to SIGKILL, and from there until it is given up. */
const GRACE_MS = 200;
const STUCK_MS = 2000;
const MOST_BYTES = 4 * 1024 * 1024;

/** The effect of the profiles on scripts that do not read them. */
export interface Profile {
  /** Variables over those of the inherited environment. Empty where the profiles could not be asked. */
  current(): Promise<Readonly<Record<string, string>>>;
  /** Resolves once no login shell is being asked. */
  settled(): Promise<void>;
}

interface ProfileHost {
  /** Starts a login shell that ends by itself with what `-c` follows, as the jobs' user. */
  readonly login: Argv;
  readonly launch: Pick<Launch, "environment" | "uid">;
  readonly table: ProcessTable;
  readonly cgroups: Cgroups | null;
  /** Name of the variable that marks processes. */
  readonly markName: string;
  /** When it fires, what is being asked is ended. */
  readonly signal: AbortSignal;
}

/**
 * Profiles can take longer than a whole job (version managers), so scripts that no author wrote start without them, and get
 * what the profiles set from a login shell that was asked once. Authors' scripts read the profiles themselves.
 */
export function createProfile(host: ProfileHost): Profile {
  let learnedAt = Number.NEGATIVE_INFINITY;
  let learning: Promise<Readonly<Record<string, string>>> | undefined;
  let known: Readonly<Record<string, string>> | undefined;

  const learn = async (): Promise<Readonly<Record<string, string>>> => {
    learnedAt = performance.now();
    try {
      known = pick(await ask(host));
    } catch {
      // What is wrong with a profile is told by the job whose script reads it.
      known ??= {};
    } finally {
      learning = undefined;
    }
    return known;
  };

  return {
    async current() {
      if (performance.now() - learnedAt > FRESH_MS) learning ??= learn();
      return known ?? (await learning) ?? {};
    },
    async settled() {
      await learning;
    },
  };
}

/**
 * What `env` prints in a login shell. The answer is there when the shell ends: whatever its profiles have started, and which may
 * hold its output open for ever, is ended then, as it would be after a job.
 */
async function ask({ login, launch, table, cgroups, markName, signal }: ProfileHost): Promise<string> {
  const name = `profile-${randomUUID()}`;
  const cgroup = cgroups?.create(`alloy-${name}`) ?? null;
  const [program, ...args] = enlisted([...login, "-c", "exec env -0"], cgroup);
  // A profile that reads its input gets none.
  const child = spawn(program, args, {
    env: { ...launch.environment, [markName]: name },
    cwd: "/",
    detached: true,
    stdio: ["ignore", "pipe", "ignore"],
  });
  try {
    const pieces: Buffer[] = [];
    let bytes = 0;
    child.stdout.on("data", (piece: Buffer) => {
      bytes += piece.length;
      if (bytes <= MOST_BYTES) pieces.push(piece);
    });
    const closed = once(child.stdout, "close");
    closed.catch(() => {}); // its failure is thrown where it is awaited below
    const { pid = -1 } = child;
    const startedAt = table.find(pid)?.startedAt ?? 0;
    const leader = { pid, startedAt };
    const code = await endOf(child, signal);
    const belonging = { table, mark: `${markName}=${name}`, uid: launch.uid, leader, since: startedAt, cgroup };
    await endMembers({ belonging, graceMs: GRACE_MS, limitMs: STUCK_MS });
    await Promise.race([closed, pause(STUCK_MS, never)]);
    if (code !== 0 || bytes > MOST_BYTES) throw new Error("the login shell gave no answer");
    return Buffer.concat(pieces).toString("utf8");
  } finally {
    child.stdout.destroy();
    child.unref();
    if (cgroup !== null) await removeSoon(cgroup);
  }
}

/** The status of a shell; `null`: it did not end by itself, and is to be ended. */
async function endOf(child: ChildProcess, signal: AbortSignal): Promise<number | null> {
  using patience = deadline(signal, PATIENCE_MS, new Stop("timed_out", "the login shell did not end"));
  return await once(child, "exit", { signal: patience.signal }).then(
    ([code]: unknown[]) => (typeof code === "number" ? code : null),
    (error: unknown) => {
      if (patience.signal.aborted) return null;
      throw error;
    },
  );
}

/** `NAME=value` between NULs. What profiles print stands before the first name and belongs to no name that is looked for. */
function pick(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const part of text.split("\0")) {
    const line = part.slice(part.lastIndexOf("\n", part.indexOf("=")) + 1);
    const equals = line.indexOf("=");
    const name = line.slice(0, Math.max(equals, 0));
    if (LEARNED.test(name)) found[name] = line.slice(equals + 1);
  }
  return found;
}
