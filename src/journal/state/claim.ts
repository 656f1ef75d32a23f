import { randomBytes } from "node:crypto";
import { appendFile, mkdir, open, readdir, readFile, rm, stat, utimes } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { ConfigError } from "../../errors.ts";
import { removeTree } from "../../files/remove-tree.ts";
import { pause } from "../../time.ts";
import { isAlive, ownIdentity, type ProcessIdentity } from "./process-identity.ts";

/** A directory that belongs to this process, and to no other one, until it is released or the process ends. */
export interface Claim {
  readonly identity: ProcessIdentity;
  release(): Promise<void>;
}

export interface ClaimTiming {
  /** How often a claim is touched, for those who cannot see its process. */
  readonly beatMs: number;
  /** A claim that was not touched for so long by a process that cannot be seen is nobody's. */
  readonly silentMs: number;
}

const claimFile = z.object({
  pid: z.number().int().positive(),
  started: z.string(),
  boot: z.string(),
  namespace: z.string(),
});

/** An empty claim younger than this is about to be written; an older one was left by a process that died there. */
const EMPTY_MS = 3000;
/** Two that start at the same time both step back, wait a random while and try again. */
const ATTEMPTS = 20;

/**
 * Claim `dir` (made if missing). Everybody writes a claim of its own first and looks for others then, so of two
 * at least one sees the other; nobody ever removes a living one's claim, so there is no race about a stale one.
 * @throws {ConfigError} another living process has it; the message names its number
 */
export async function claimDirectory(
  dir: string,
  subject: string,
  signal: AbortSignal,
  { beatMs = 10_000, silentMs = 25_000 }: Partial<ClaimTiming> = {},
): Promise<Claim> {
  const identity = await ownIdentity();
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const name = `${identity.pid}-${randomBytes(6).toString("hex")}`;
  const path = join(dir, name);
  for (let attempt = 1; ; attempt++) {
    await writeClaim(path, identity);
    let other: Holder | null;
    try {
      other = await findOther(dir, name, identity, silentMs, signal);
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
    if (other === null) {
      await appendFile(path, HELD);
      break;
    }
    await rm(path, { force: true });
    if (!other.starting || attempt === ATTEMPTS) {
      throw new ConfigError(
        `${subject} is in use by process ${other.pid}${other.visible ? "" : " in another container or namespace"}; ` +
          "set state_dir to another directory, or stop that process",
      );
    }
    await pause(10 + Math.random() * 20 * attempt, signal);
  }
  // A stopped clock of a process that nobody can see would look like its death. Must not hold the process up.
  const beat = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => undefined);
  }, beatMs).unref();
  return {
    identity,
    async release() {
      clearInterval(beat);
      await rm(path, { force: true });
    },
  };
}

/** Appended to a claim once it holds: whoever sees it need not try again. */
const HELD = "\n";

interface Holder {
  readonly pid: number;
  /** It may step back yet. */
  readonly starting: boolean;
  readonly visible: boolean;
}

async function writeClaim(path: string, identity: ProcessIdentity): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    await file.writeFile(JSON.stringify(identity));
  } catch (error) {
    // An empty one is taken for a process that is about to start.
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}

/** The first living claim beside `own`; dead ones are removed on the way. */
async function findOther(
  dir: string,
  own: string,
  identity: ProcessIdentity,
  silentMs: number,
  signal: AbortSignal,
): Promise<Holder | null> {
  for (const name of await readdir(dir)) {
    if (name === own) continue;
    const holder = await look(join(dir, name), identity, silentMs, signal);
    if (holder !== null) return holder;
    await removeTree(join(dir, name));
  }
  return null;
}

async function look(
  path: string,
  identity: ProcessIdentity,
  silentMs: number,
  signal: AbortSignal,
): Promise<Holder | null> {
  const found = await readClaim(path);
  if (found === null) return null;
  const { claim, held, ageMs } = found;
  if (claim === null) {
    const pid = Number.parseInt(basename(path), 10);
    return ageMs < EMPTY_MS ? { pid, starting: true, visible: true } : null;
  }
  if (claim.boot !== identity.boot) return null;
  const visible = claim.namespace === identity.namespace;
  // Without its start time a number may have gone to another process, as after a restart of a Windows machine.
  const certain = visible && claim.started !== "";
  const alive = (!visible || (await isAlive(claim))) && (certain || (await isTouched(path, silentMs, signal)));
  return alive ? { pid: claim.pid, starting: !held, visible } : null;
}

/** Watch a claim whose process cannot be looked up: is it touched before it has been silent for too long? */
async function isTouched(path: string, silentMs: number, signal: AbortSignal): Promise<boolean> {
  const first = await stat(path).catch(() => null);
  if (first === null) return false;
  const end = performance.now() + silentMs;
  while (performance.now() < end) {
    await pause(Math.min(500, silentMs / 10), signal);
    const now = await stat(path).catch(() => null);
    if (now === null) return false;
    if (now.mtimeMs !== first.mtimeMs) return true;
  }
  return false;
}

interface ReadClaim {
  readonly claim: ProcessIdentity | null;
  readonly held: boolean;
  readonly ageMs: number;
}

async function readClaim(path: string): Promise<ReadClaim | null> {
  try {
    const [text, { mtimeMs }] = await Promise.all([readFile(path, "utf8"), stat(path)]);
    return { claim: parse(text), held: text.endsWith(HELD), ageMs: Math.abs(Date.now() - mtimeMs) };
  } catch {
    return null; // gone in this moment, or no file at all
  }
}

function parse(text: string): ProcessIdentity | null {
  try {
    return claimFile.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
