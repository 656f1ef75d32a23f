import { lstat } from "node:fs/promises";
import { type IncomingMessage, type RequestOptions, request } from "node:http";
import { createInterface } from "node:readline";
import { z } from "zod";
import { CommandError, describeError } from "../errors.ts";
import { pipeFile, socketAddress, socketPath } from "./place.ts";
import { LONG_WORK_MS, PROTOCOL, PROTOCOL_HEADER, problemSchema, VERSION_HEADER } from "./protocol.ts";

/** A running runner, as another process of its operator reaches it. */
export interface ControlClient {
  /** @throws {CommandError} why not, and what to do */
  get<T>(path: string, schema: z.ZodType<T>): Promise<T>;
  post<T>(path: string, schema: z.ZodType<T>): Promise<T>;
  /** Lines of JSON as they come. @throws {CommandError} also where they end before their end */
  lines<T>(path: string, schema: z.ZodType<T>, signal: AbortSignal): AsyncGenerator<T>;
}

export interface ControlClientOptions {
  readonly stateDir: string;
  /** What the person called it by, for messages: `/etc/alloy-runner/config.toml`. */
  readonly named: string;
  readonly uid: number | undefined;
  /** What a runner of this system has: a pipe on Windows. */
  readonly by?: "socket" | "pipe";
}

/** There is no runner, or one that has ended without removing its socket. */
export class NobodyListens extends CommandError {}

/** Much longer than a reload takes. */
const ANSWER_LIMIT_MS = 60_000;

export function createControlClient(options: ControlClientOptions): ControlClient {
  const ask = async <T>(method: string, path: string, schema: z.ZodType<T>): Promise<T> => {
    const limitMs = path.startsWith("gc") ? LONG_WORK_MS : ANSWER_LIMIT_MS;
    const response = await send(options, method, path, AbortSignal.timeout(limitMs));
    const text = await bodyOf(response);
    return parsed(text, schema);
  };
  return {
    get: (path, schema) => ask("GET", path, schema),
    post: (path, schema) => ask("POST", path, schema),
    async *lines(path, schema, signal) {
      const response = await send(options, "GET", path, signal);
      try {
        for await (const line of createInterface({ input: response })) yield parsed(line, schema);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof CommandError) throw error;
        throw new CommandError(`The runner broke off: ${describeError(error)}`, { cause: error });
      }
    },
  };
}

async function send(
  options: ControlClientOptions,
  method: string,
  path: string,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  using way = await wayTo(options, signal);
  let response: IncomingMessage;
  try {
    response = await new Promise((resolve, reject) => {
      request({ ...way.options, method, path: `/v${PROTOCOL}/${path}`, signal })
        .on("response", resolve)
        .on("error", reject)
        .end();
    });
  } catch (error) {
    throw unreachable(error, options);
  }
  const spoken = response.headers[PROTOCOL_HEADER];
  if (spoken !== String(PROTOCOL)) {
    response.destroy();
    const version = String(response.headers[VERSION_HEADER] ?? "of another version").slice(0, 100);
    throw new CommandError(
      `The runner of ${options.named} is ${version} and speaks version ${String(spoken ?? "?").slice(0, 10)} of the control protocol, this program version ${PROTOCOL}. Use the program that the runner was started from, or restart the runner`,
    );
  }
  if (response.statusCode === 200) return response;
  const { problem } = parsed(await bodyOf(response), problemSchema);
  throw new CommandError(problem);
}

interface Way extends Disposable {
  readonly options: RequestOptions;
}

async function wayTo(options: ControlClientOptions, signal: AbortSignal): Promise<Way> {
  const { stateDir, named, by } = options;
  if ((by ?? keptBy()) === "pipe") {
    const { reachPipe } = await import("./pipe.ts");
    const reached = await reachPipe(stateDir, signal);
    if ("not" in reached) throw notReached(reached.not, named, pipeFile(stateDir), reached.cause);
    return { options: { createConnection: () => reached.socket }, [Symbol.dispose]: () => {} };
  }
  await demandOwn(options);
  try {
    const address = socketAddress(stateDir);
    return {
      options: { socketPath: address.path, agent: false },
      [Symbol.dispose]: () => address[Symbol.dispose](),
    };
  } catch (error) {
    throw unreachable(error, options);
  }
}

function keptBy(): "socket" | "pipe" {
  return process.platform === "win32" ? "pipe" : "socket";
}

/** The file that a running runner has, and that one which was killed leaves behind. */
export function controlFile(stateDir: string): string {
  return keptBy() === "pipe" ? pipeFile(stateDir) : socketPath(stateDir);
}

function notReached(
  why: "nobody" | "foreign" | "stranger" | "refused",
  named: string,
  file: string,
  cause: unknown,
): CommandError {
  switch (why) {
    case "nobody":
      return new NobodyListens(absent(named, `the pipe of ${file}`), { cause });
    case "foreign":
      return new CommandError(foreign(named, "another account", "an administrator"), { cause });
    case "stranger":
      return new CommandError(
        `What answers at the pipe of ${file} is not the runner of ${named}: it does not know the secret of that file. Nothing was told to it. Restart the runner, and see who made that pipe`,
      );
    case "refused":
      return new CommandError(`The runner of ${named} broke off before it was asked. Try again`);
  }
}

/** Another account's socket may say anything, so only root may ask the runners of other accounts. */
async function demandOwn({ stateDir, named, uid }: ControlClientOptions): Promise<void> {
  const path = socketPath(stateDir);
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "EACCES") throw new CommandError(foreign(named, "another account"), { cause: error });
    if (error.code === "ENOENT" || error.code === "ENOTDIR")
      throw new NobodyListens(absent(named, path), { cause: error });
    throw error;
  });
  if (!found.isSocket()) throw new CommandError(`${path} is no socket. Remove it, and restart the runner`);
  if (uid !== 0 && found.uid !== uid)
    throw new CommandError(foreign(named, found.uid === 0 ? "root" : `the account with the number ${found.uid}`));
}

function unreachable(error: unknown, { stateDir, named, uid }: ControlClientOptions): CommandError {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const path = socketPath(stateDir);
  if (code === "EACCES")
    return new CommandError(foreign(named, uid === 0 ? "an account of another namespace" : "another account"));
  if (code === "ENOENT" || code === "ECONNREFUSED" || code === "FailedToOpenSocket") {
    return new NobodyListens(absent(named, path), { cause: error });
  }
  return new CommandError(`The runner of ${named} does not answer: ${describeError(error)}`, { cause: error });
}

function absent(named: string, path: string): string {
  return `No runner is running for ${named} (nobody listens at ${path}). Start it with "alloy-runner run" or "alloy-runner start"; --config or --state-dir names another one`;
}

function foreign(named: string, whose: string, mighty = "root"): string {
  return `The runner of ${named} belongs to ${whose}. Run this as that account, or as ${mighty}`;
}

async function bodyOf(response: IncomingMessage): Promise<string> {
  try {
    let text = "";
    for await (const chunk of response.setEncoding("utf8")) text += String(chunk);
    return text;
  } catch (error) {
    throw new CommandError(`The runner broke off: ${describeError(error)}`, { cause: error });
  }
}

function parsed<T>(text: string, schema: z.ZodType<T>): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    const why = error instanceof z.ZodError ? z.prettifyError(error) : describeError(error);
    throw new CommandError(`The runner's answer cannot be read: ${why}`, { cause: error });
  }
}
