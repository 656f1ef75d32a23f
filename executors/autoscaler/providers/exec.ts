import { type ChildProcess, spawn } from "node:child_process";
import type { Readable } from "node:stream";
import { z } from "zod";
import { SystemFailure } from "../../../src/errors.ts";
import { deadline, unlessAborted } from "../../../src/time.ts";
import { type Cloud, parseAddress } from "./instance.ts";

export interface ExecSettings {
  /** The program and its first arguments. */
  readonly command: readonly string[];
  /** Handed on with each request, as it stands in the configuration. */
  readonly config: unknown;
  /** Longest call. */
  readonly callMs: number;
}

const VERSION = 1;
const GRACE_MS = 5_000;
/** From its end to the end of its output. */
const LAST_WORDS_MS = 2_000;
const MOST_BYTES = 4 * 1024 * 1024;

const LIVING: readonly string[] = ["creating", "running"];

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
const address = z.string().transform((text, context) => {
  const parsed = parseAddress(text);
  if (parsed !== null) return parsed;
  context.addIssue({ code: "custom", message: `${JSON.stringify(text.slice(0, 100))} is no address` });
  return z.NEVER;
});
const connected = z
  .object({
    address: address.optional(),
    internal_addr: address.optional(),
    external_addr: address.optional(),
    username: z.string().min(1).optional(),
    password: z.string().optional(),
    key: z.string().optional(),
    host_keys: z.array(z.string()).default([]),
    expires: z.iso.datetime({ offset: true }).optional(),
  })
  .refine(
    (answer) => [answer.address, answer.internal_addr, answer.external_addr].some((one) => one !== undefined),
    "it has no address",
  );

/**
 * Instances by any program: it is started for each request, which it reads as one JSON object on stdin, and answers with another
 * one on stdout. What it prints on stderr is said where it fails.
 * @param settings asked for each call
 * @param environment of the program
 */
export function execProvider(settings: () => ExecSettings, environment: Environment): Cloud {
  const closing = new AbortController();
  /** What changes something there is not broken off: nobody would know what became of it. */
  const underWay = new Set<Promise<unknown>>();

  const ask = async <T>(answer: z.ZodType<T>, operation: string, more: object, signal: AbortSignal): Promise<T> => {
    const current = settings();
    const request = { version: VERSION, operation, ...more, config: current.config };
    const output = await call({ ...current, environment }, operation, JSON.stringify(request), signal);
    const parsed = answer.safeParse(parseJson(output));
    if (parsed.success) return parsed.data;
    const [issue] = parsed.error.issues;
    const where = issue === undefined || issue.path.length === 0 ? "" : `${issue.path.join(".")}: `;
    throw failure(current, operation, `its answer is not what was asked for: ${where}${issue?.message ?? ""}`);
  };
  const change = async <T>(answer: z.ZodType<T>, operation: string, more: object, signal: AbortSignal): Promise<T> => {
    const asked = ask(answer, operation, more, closing.signal);
    underWay.add(asked);
    void asked.catch(() => {}).finally(() => underWay.delete(asked));
    return await unlessAborted(asked, signal);
  };
  const list = async (signal: AbortSignal) => (await ask(listed, "list", {}, signal)).instances;

  return {
    lasting: false,
    init: async (signal) => void (await ask(nothing, "init", {}, signal)),
    list,
    exists: async (id, signal) => (await list(signal)).some((one) => one.id === id && LIVING.includes(one.state)),
    grow: async (count, signal) => Math.min(count, (await change(grown, "grow", { count }, signal)).count),
    shrink: async (ids, signal) => void (await change(nothing, "shrink", { ids }, signal)),
    async connect(id, signal) {
      const answer = await ask(connected, "connect", { id }, signal);
      return {
        internal: answer.internal_addr ?? answer.address ?? null,
        external: answer.external_addr ?? null,
        user: answer.username,
        password: answer.password,
        key: answer.key,
        keyFile: undefined,
        hostKeys: answer.host_keys,
        expires: answer.expires === undefined ? undefined : Date.parse(answer.expires),
      };
    },
    check: async (id, _, signal) => void (await ask(nothing, "check", { id }, signal)),
    async close(signal) {
      await unlessAborted(Promise.allSettled(underWay), signal).catch(() => {});
      closing.abort(new SystemFailure("the executor is closed"));
      await Promise.allSettled(underWay);
    },
  };
}

type Environment = Readonly<Record<string, string | undefined>>;
type Call = ExecSettings & { readonly environment: Environment };

/** @returns what it printed on stdout */
async function call(settings: Call, operation: string, request: string, outer: AbortSignal): Promise<string> {
  const { command, environment, callMs } = settings;
  const [program = "", ...args] = command;
  using limit = deadline(outer, callMs, failure(settings, operation, `it does not end within ${callMs / 1000} s`));
  limit.signal.throwIfAborted();
  const child = spawn(program, args, { env: environment, detached: process.platform !== "win32", windowsHide: true });
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  const exited = Promise.withResolvers<number | null>();
  child.once("error", (cause) => exited.reject(failure(settings, operation, "it cannot be started", cause)));
  child.once("exit", exited.resolve);
  const closed = new Promise((resolve) => child.once("close", resolve));
  // It need not read its request to the end.
  child.stdin.on("error", () => {});
  child.stdin.end(request);
  try {
    const code = await unlessAborted(exited.promise, limit.signal);
    // What it has left running may hold its output.
    using last = deadline(limit.signal, LAST_WORDS_MS, new Error("its output is held"));
    await unlessAborted(closed, last.signal).catch(() => {});
    const said = stderr().trim().split("\n").at(-1)?.slice(0, 500) ?? "";
    if (code === 0) return stdout();
    throw failure(settings, operation, `it ended with status ${code}${said === "" ? "" : `: ${said}`}`);
  } finally {
    child.stdout.destroy();
    child.stderr.destroy();
    if (limit.signal.aborted) endGroup(child);
  }
}

/** SIGTERM to it and all that it has started, and SIGKILL where that is not enough. */
function endGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  const send = (signal: NodeJS.Signals): void => {
    try {
      process.kill(process.platform === "win32" ? pid : -pid, signal);
    } catch {
      // All of it has ended.
    }
  };
  send("SIGTERM");
  setTimeout(send, GRACE_MS, "SIGKILL").unref();
}

function collect(stream: Readable): () => string {
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream.on("error", () => {});
  stream.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= MOST_BYTES) chunks.push(chunk);
  });
  return () => Buffer.concat(chunks).toString();
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function failure(
  { command }: Pick<ExecSettings, "command">,
  operation: string,
  why: string,
  cause?: unknown,
): SystemFailure {
  const options = cause === undefined ? { retry: true } : { retry: true, cause };
  return new SystemFailure(`${command[0]} fails at "${operation}": ${why}`, options);
}
