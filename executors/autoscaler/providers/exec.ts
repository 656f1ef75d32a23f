import { spawn } from "node:child_process";
import { text as readAll } from "node:stream/consumers";
import { z } from "zod";
import { SystemFailure } from "../../../src/errors.ts";
import { deadline, unlessAborted } from "../../../src/time.ts";
import type { Provider } from "../../scaler/index.ts";
import { type InstanceConnection, parseAddress } from "./instance.ts";

export interface ExecSettings {
  /** The program and its first arguments. */
  readonly command: readonly string[];
  /** Handed on with each request, as it stands in the configuration. */
  readonly config: unknown;
  readonly user: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly callMs?: number;
}

const VERSION = 1;
const CALL_MS = 60_000;
const GRACE_MS = 5_000;
const MOST_BYTES = 4 * 1024 * 1024;

const nothing = z.looseObject({});
const listed = z.object({
  instances: z.array(
    z.object({
      id: z.string().min(1).max(200),
      state: z.enum(["creating", "running", "failed", "deleting", "deleted"]),
    }),
  ),
});
const grown = z.object({ count: z.int().min(0) });
const connected = z.object({
  address: z.string(),
  username: z.string().min(1).optional(),
  password: z.string().optional(),
  key: z.string().optional(),
  host_keys: z.array(z.string()).default([]),
  expires: z.iso.datetime({ offset: true }).optional(),
});

/**
 * Instances by any program: it is started for each request, which it reads as one JSON object on stdin, and answers with another
 * one on stdout. What it prints on stderr is said where it fails.
 */
export function execProvider(settings: ExecSettings): Provider<InstanceConnection> {
  const { config, user } = settings;
  const ask = async <T>(answer: z.ZodType<T>, operation: string, more: object, signal: AbortSignal): Promise<T> => {
    const request = { version: VERSION, operation, ...more, config };
    const output = await call(settings, operation, JSON.stringify(request), signal);
    const parsed = answer.safeParse(parseJson(output));
    if (parsed.success) return parsed.data;
    const [issue] = parsed.error.issues;
    const where = issue === undefined || issue.path.length === 0 ? "" : `${issue.path.join(".")}: `;
    throw failure(settings, operation, `its answer is not what was asked for: ${where}${issue?.message ?? ""}`);
  };

  return {
    init: async (signal) => void (await ask(nothing, "init", {}, signal)),
    list: async (signal) => (await ask(listed, "list", {}, signal)).instances,
    grow: async (count, signal) => Math.min(count, (await ask(grown, "grow", { count }, signal)).count),
    shrink: async (ids, signal) => void (await ask(nothing, "shrink", { ids }, signal)),
    async connect(id, signal) {
      const answer = await ask(connected, "connect", { id }, signal);
      const address = parseAddress(answer.address);
      if (address === null) throw failure(settings, "connect", `"${answer.address}" is no address`);
      return {
        ...address,
        user: answer.username ?? user,
        password: answer.password,
        key: answer.key,
        hostKeys: answer.host_keys,
        expires: answer.expires === undefined ? undefined : Date.parse(answer.expires),
      };
    },
    check: async (id, _, signal) => void (await ask(nothing, "check", { id }, signal)),
    close: async () => {},
  };
}

async function call(settings: ExecSettings, operation: string, request: string, outer: AbortSignal): Promise<string> {
  const { command, environment, callMs = CALL_MS } = settings;
  const [program = "", ...args] = command;
  using limit = deadline(outer, callMs, failure(settings, operation, `it does not end within ${callMs / 1000} s`));
  limit.signal.throwIfAborted();
  const child = spawn(program, args, { env: environment, detached: process.platform !== "win32", windowsHide: true });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", (cause) => reject(failure(settings, operation, "it cannot be started", cause)));
    child.once("close", resolve);
  });
  // It need not read its request to the end.
  child.stdin.on("error", () => {});
  child.stdin.end(request);
  const all = Promise.all([bounded(child.stdout), bounded(child.stderr), ended]);
  try {
    const [stdout, stderr, code] = await unlessAborted(all, limit.signal);
    if (code === 0) return stdout;
    const said = stderr.trim().split("\n").at(-1) ?? "";
    throw failure(settings, operation, `it ended with status ${code}${said === "" ? "" : `: ${said.slice(0, 500)}`}`);
  } catch (error) {
    endGroup(child.pid, "SIGTERM");
    if (child.exitCode === null)
      setTimeout(() => child.exitCode === null && endGroup(child.pid, "SIGKILL"), GRACE_MS).unref();
    throw error;
  }
}

function endGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(process.platform === "win32" ? pid : -pid, signal);
  } catch {
    // It has ended.
  }
}

async function bounded(stream: NodeJS.ReadableStream): Promise<string> {
  let bytes = 0;
  const limited = async function* () {
    for await (const chunk of stream) {
      const part = Buffer.from(chunk);
      bytes += part.length;
      if (bytes <= MOST_BYTES) yield part;
    }
  };
  return await readAll(limited());
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function failure({ command }: ExecSettings, operation: string, why: string, cause?: unknown): SystemFailure {
  const options = cause === undefined ? { retry: true } : { retry: true, cause };
  return new SystemFailure(`${command[0]} fails at "${operation}": ${why}`, options);
}
