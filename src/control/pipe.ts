import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createConnection, type Socket } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { z } from "zod";
import { ConfigError, describeError } from "../errors.ts";
import { removeTree } from "../files/remove-tree.ts";
import type { Log } from "../log.ts";
import type { Door } from "./door.ts";
import { controlDir, pipeFile } from "./place.ts";
import { demandProof, giveProof, type Pass } from "./proof.ts";

/**
 * The control pipe of Windows. Neither runtime can give a pipe rights of its own or tell who is at its other end: by default
 * everybody may read from it, its creator and administrators may write, and its name can be listed. So its name is random, and
 * nothing is said before each end has proven that it can read the file with the secret, which the rights of its directory protect.
 */
const WINDOWS_PIPES = "\\\\.\\pipe\\";

const SECRET_BYTES = 32;
const CONNECT_LIMIT_MS = 5000;

const keySchema = z.object({
  pipe: z.string().min(1).max(200),
  secret: z.base64().transform((text) => Buffer.from(text, "base64")),
});

/**
 * @param before what the names of this system's pipes begin with
 * @throws {ConfigError} nobody but the runner's account and administrators may read the file of the secret, and that cannot be had
 */
export async function openPipeDoor(stateDir: string, log: Log, before = WINDOWS_PIPES): Promise<Door> {
  const file = pipeFile(stateDir);
  await makePrivate(controlDir(stateDir));
  const pass: Pass = {
    place: `${before}alloy-runner-${randomBytes(16).toString("hex")}`,
    secret: randomBytes(SECRET_BYTES),
  };
  return {
    path: pass.place,
    async opened() {
      const key = JSON.stringify({ pipe: pass.place, secret: pass.secret.toString("base64") });
      await writeFile(file, `${key}\n`, { flag: "wx", mode: 0o600 });
    },
    async admits(socket) {
      if (await demandProof(socket, pass)) return true;
      log.debug("somebody reached the control pipe who does not know its secret, and was turned away");
      return false;
    },
    closed: () => rm(file, { force: true }),
  };
}

/** Anew at each start: whoever made a directory keeps rights to it. */
async function makePrivate(dir: string): Promise<void> {
  await removeTree(dir);
  await mkdir(dir, { mode: 0o700 });
  if (process.platform !== "win32") return;
  // Nothing is inherited: full rights for the system, for administrators, and for whoever owns it ("OWNER RIGHTS").
  const granted = ["*S-1-5-18:(OI)(CI)F", "*S-1-5-32-544:(OI)(CI)F", "*S-1-3-4:(OI)(CI)F"];
  const icacls = join(process.env.SystemRoot ?? "C:\\Windows", "System32", "icacls.exe");
  try {
    await promisify(execFile)(icacls, [dir, "/inheritance:r", "/grant:r", ...granted], {
      timeout: 30_000,
      windowsHide: true,
    });
  } catch (cause) {
    throw new ConfigError(`${dir} cannot be made private by icacls: ${describeError(cause)}`, { cause });
  }
}

export type Reached =
  | { readonly socket: Socket }
  /** `nobody`: there is no runner; `stranger`: what listens is not the runner; `refused`: the runner does not want this client. */
  | { readonly not: "nobody" | "foreign" | "stranger" | "refused"; readonly cause?: unknown };

/** A connection to the runner, on which both have proven who they are. */
export async function reachPipe(stateDir: string, signal: AbortSignal): Promise<Reached> {
  const key = await readKey(stateDir);
  if ("not" in key) return key;
  const socket = createConnection(key.place);
  // Also after it is handed over: whoever uses it hears of errors by itself.
  socket.on("error", () => {});
  const limit = AbortSignal.any([signal, AbortSignal.timeout(CONNECT_LIMIT_MS)]);
  const giveUp = (): void => void socket.destroy();
  limit.addEventListener("abort", giveUp, { once: true });
  try {
    await once(socket, "connect", { signal: limit });
    const outcome = await giveProof(socket, key);
    if (outcome === "welcome") return { socket };
    socket.destroy();
    return { not: outcome };
  } catch (cause) {
    socket.destroy();
    signal.throwIfAborted();
    const denied = codeOf(cause) === "EACCES" || codeOf(cause) === "EPERM";
    return { not: denied ? "foreign" : "nobody", cause };
  } finally {
    limit.removeEventListener("abort", giveUp);
  }
}

async function readKey(
  stateDir: string,
): Promise<Pass | { readonly not: "nobody" | "foreign"; readonly cause: unknown }> {
  try {
    const { pipe, secret } = keySchema.parse(JSON.parse(await readFile(pipeFile(stateDir), "utf8")));
    return { place: pipe, secret };
  } catch (cause) {
    const denied = codeOf(cause) === "EACCES" || codeOf(cause) === "EPERM";
    return { not: denied ? "foreign" : "nobody", cause };
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
