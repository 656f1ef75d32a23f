import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { Readable, type Writable } from "node:stream";
import { ScriptFailure, SystemFailure } from "../../../src/errors.ts";
import type { FileKeeping, KeptFiles, WorkspaceFiles } from "../../../src/workspace.ts";
import { createNameCount } from "../../common/files/found.ts";
import type { Launch } from "../launch/launch.ts";
import type { Places } from "../places/places.ts";

import {
  createNameReader,
  encodeRequest,
  FILES_COMMAND,
  type FilesRequest,
  keptSchema,
  listSchema,
  nameBytes,
  type Remark,
  remarkSchema,
  reportSchema,
} from "./protocol.ts";

export interface FilesHost {
  readonly launch: Launch;
  /** `NAME=value` in the environment of what is started for the job. */
  readonly mark: string;
  /** Starts this program again. */
  readonly ownProgram: readonly [string, ...string[]];
  /** Whether files may stay from one job to the next: nothing that a job started may go on behind its back. */
  readonly keepsFiles: boolean;
}

/** The process belongs to the job's user, whose other processes may speak in its name: what is kept of its words is bounded. */
export const MOST_ANSWER_BYTES = 1024 * 1024;
const MOST_LINE_LENGTH = 64 * 1024;
const MOST_WARNINGS = 1000;
/** From the end of its interest in a tar until it has said why. */
const WORDS_MS = 5000;

interface Worker {
  readonly child: ChildProcessWithoutNullStreams;
  readonly warnings: readonly string[];
  /** Rejects with what the process said of its failure, or with `signal.reason`. */
  readonly ended: Promise<void>;
}

/** The files of a job, reached through a process that has its user's rights. One process for each call. */
export function filesThroughProcess(
  { root, tmpDir }: Pick<Places, "root" | "tmpDir">,
  host: FilesHost,
): WorkspaceFiles {
  const places = { root, tmpDir };
  return {
    async list(select, signal) {
      const { globs, exclude, untracked } = select;
      const request: FilesRequest = {
        do: "list",
        ...places,
        select: { globs: [...globs], exclude: [...exclude], untracked },
      };
      const reader = createNameReader(createNameCount());
      const rest = await ask(host, request, undefined, signal, (bytes) => reader.push(bytes));
      return { paths: reader.names, ...listSchema.parse(rest) };
    },
    async pack(paths, signal) {
      const worker = start(host, signal);
      worker.ended.catch(() => {}); // its failure is thrown where the tar is read
      worker.child.stdin.write(encodeRequest({ do: "pack", ...places }));
      Readable.from(nameBytes(paths), { objectMode: false }).pipe(worker.child.stdin);
      const tar = Readable.from(tarOf(worker), { objectMode: false, highWaterMark: 1024 * 1024 });
      return { tar, warnings: worker.warnings };
    },
    async unpack(tar, limits, signal) {
      return reportSchema.parse(await ask(host, { do: "unpack", ...places, limits: { ...limits } }, tar, signal));
    },
    ...(host.keepsFiles ? { keeping: keepingThroughProcess(places, host) } : {}),
  };
}

function keepingThroughProcess(places: Pick<Places, "root" | "tmpDir">, host: FilesHost): FileKeeping {
  const keep = async (request: FilesRequest, signal: AbortSignal): Promise<KeptFiles | null> =>
    keptSchema.nullable().parse(await ask(host, request, undefined, signal));
  return {
    place: places.root,
    record: ({ placed = [] }, signal) => keep({ do: "record", ...places, names: [...placed] }, signal),
    setAside: (kept, signal) => keep({ do: "set aside", ...places, kept }, signal),
    putBack: (kept, signal) => keep({ do: "put back", ...places, kept }, signal),
    drop: async (kept, signal) => void (await keep({ do: "drop", ...places, kept }, signal)),
  };
}

async function* tarOf({ child, ended }: Worker): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of child.stdout) yield chunk;
    await ended;
  } catch (error) {
    await ended; // its own words come first
    throw error;
  } finally {
    child.kill("SIGKILL");
  }
}

function sendRequest({ child }: Worker, request: FilesRequest): void {
  child.stdin.end(encodeRequest(request));
}

/**
 * A request, its tar if there is one, and the result.
 * @param before takes what comes before the result, until it returns what follows
 */
async function ask(
  host: FilesHost,
  request: FilesRequest,
  tar: Readable | undefined,
  signal: AbortSignal,
  before: ((bytes: Buffer) => Buffer | undefined) | undefined = undefined,
): Promise<unknown> {
  const worker = start(host, signal);
  const { child, ended } = worker;
  let output: Buffer[] = [];
  let bytes = 0;
  let foreword = before;
  let tooMuch: unknown;
  child.stdout.on("data", (chunk: Buffer) => {
    if (tooMuch !== undefined) return;
    try {
      let answer: Buffer | undefined = chunk;
      if (foreword !== undefined) {
        answer = foreword(chunk);
        if (answer === undefined) return;
        foreword = undefined;
      }
      bytes += answer.length;
      if (bytes > MOST_ANSWER_BYTES) {
        throw new SystemFailure(
          `The process that reaches the job's files answered more than ${MOST_ANSWER_BYTES} bytes`,
        );
      }
      output.push(answer);
    } catch (error) {
      tooMuch = error;
      output = [];
      child.kill("SIGKILL");
    }
  });
  try {
    if (tar === undefined) sendRequest(worker, request);
    else {
      child.stdin.write(encodeRequest(request));
      await feed(tar, worker);
    }
    await ended;
    if (tooMuch !== undefined) throw tooMuch; // it may have ended well before it could be killed
  } catch (error) {
    throw tooMuch ?? error;
  } finally {
    child.kill("SIGKILL");
  }
  try {
    return JSON.parse(Buffer.concat(output).toString("utf8"));
  } catch (cause) {
    throw new SystemFailure("The process that reaches the job's files gave an answer that is none", { cause });
  }
}

/**
 * Hand over a tar. A process that refuses what it reads ends in the midst of it, and says why by itself: that the pipe broke is
 * only the echo. Rejects with what the tar itself fails with.
 */
async function feed(tar: Readable, { child, ended }: Worker): Promise<void> {
  const { stdin } = child;
  let over = false;
  const stop = (): void => {
    over = true;
    tar.destroy();
  };
  ended.then(stop, stop);
  stdin.once("close", stop);
  try {
    await pass(tar, stdin);
  } catch (error) {
    if (!over) throw error;
  }
  if (over) {
    const limit = setTimeout(() => child.kill("SIGKILL"), WORDS_MS);
    await ended.finally(() => clearTimeout(limit));
  } else stdin.end();
}

async function pass(tar: Readable, stdin: Writable): Promise<void> {
  for await (const chunk of tar) {
    if (stdin.destroyed) return;
    if (stdin.write(chunk)) continue;
    await new Promise<void>((resolve) => {
      const go = (): void => {
        stdin.off("drain", go).off("close", go);
        resolve();
      };
      stdin.on("drain", go).on("close", go);
    });
  }
}

function start({ launch, mark, ownProgram }: FilesHost, signal: AbortSignal): Worker {
  signal.throwIfAborted();
  const [program, ...args] = launch.command([...ownProgram, FILES_COMMAND]);
  const equals = mark.indexOf("=");
  const inherited = Object.entries(launch.environment).filter(([key]) => !/^(?:BUN|NODE)_/.test(key));
  const child = spawn(program, args, {
    cwd: "/",
    env: { ...Object.fromEntries(inherited), [mark.slice(0, equals)]: mark.slice(equals + 1) },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const warnings: string[] = [];
  let error: Extract<Remark, { error: unknown }>["error"] | undefined;
  let said = "";
  let rest = "";
  child.stdin.on("error", () => {}); // it ended before it had read all: its own words tell why
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = (lines.pop() ?? "").slice(-MOST_LINE_LENGTH);
    for (const line of lines) {
      const remark = parseRemark(line);
      if (remark === undefined) said = `${said}${line} `.slice(-500);
      else if ("warning" in remark) {
        if (warnings.length < MOST_WARNINGS) warnings.push(remark.warning);
      } else error = remark.error;
    }
  });
  const onAbort = (): void => {
    child.kill("SIGKILL");
    // Another process of the account may have taken hold of the other ends.
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
  };
  signal.addEventListener("abort", onAbort, { once: true });
  const ended = new Promise<void>((resolve, reject) => {
    child.once("error", (cause) => {
      signal.removeEventListener("abort", onAbort);
      reject(new SystemFailure("Cannot start the process that reaches the job's files", { cause }));
    });
    child.once("close", (code, killedBy) => {
      signal.removeEventListener("abort", onAbort);
      if (signal.aborted) reject(signal.reason);
      else if (code === 0) resolve();
      else if (error !== undefined) {
        reject(error.blame === "script" ? new ScriptFailure(error.message) : new SystemFailure(error.message));
      } else {
        const how = killedBy === null ? `status ${code}` : `signal ${killedBy}`;
        reject(
          new SystemFailure(
            `The process that reaches the job's files ended with ${how}: ${said.trim() || "it said nothing"}`,
          ),
        );
      }
    });
  });
  ended.catch(() => {});
  return { child, warnings, ended };
}

function parseRemark(line: string): Remark | undefined {
  try {
    return remarkSchema.parse(JSON.parse(line));
  } catch {
    return undefined;
  }
}
