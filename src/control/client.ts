import { lstat } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { createInterface } from "node:readline";
import { z } from "zod";
import { CommandError, describeError } from "../errors.ts";
import { socketAddress, socketPath } from "./place.ts";
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
  const { stateDir, uid } = options;
  if (process.platform === "win32") throw new CommandError("There is no control socket on Windows yet");
  await demandOwn(options);
  let response: IncomingMessage;
  try {
    using address = socketAddress(stateDir);
    response = await new Promise((resolve, reject) => {
      request({ socketPath: address.path, method, path: `/v${PROTOCOL}/${path}`, signal, agent: false })
        .on("response", resolve)
        .on("error", reject)
        .end();
    });
  } catch (error) {
    throw unreachable(error, options, uid);
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

function unreachable(error: unknown, { stateDir, named }: ControlClientOptions, uid: number | undefined): CommandError {
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

function foreign(named: string, whose: string): string {
  return `The runner of ${named} belongs to ${whose}. Run this as that account, or as root`;
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
