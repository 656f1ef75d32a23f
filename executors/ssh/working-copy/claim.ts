import { basename } from "node:path/posix";
import { PassThrough } from "node:stream";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import type { Trust } from "../../../src/job/job.ts";
import { slotName, slotNames } from "../../common/places/slot-name.ts";
import type { RemoteCommands } from "../../remote/index.ts";
import { CLAIM_PROGRAM, RESUME_PROGRAM } from "./claim-program.ts";

/** Whose claim it is. */
export interface ClaimOwner {
  /** As configured: absolute there, or relative to the account's home. */
  readonly buildsDir: string;
  readonly runnerId: string;
  readonly trust: Trust;
  readonly jobKey: string;
  /** `jobMark(jobKey)` */
  readonly mark: string;
  readonly killGraceMs: number;
  /** The working copy goes when it is released. */
  readonly ephemeral: boolean;
  /** For messages. */
  readonly host: string;
  /** How long it may be taken over once its connection is gone, until the host ends the job; 0: not at all. */
  readonly leaseMs: number;
}

interface ClaimRequest extends ClaimOwner {
  readonly projectPath: string;
  readonly projectId: string;
}

/** A job's claim on a working copy of the far host; nobody else works there until it is released. */
export interface Claim {
  readonly slot: number;
  readonly root: string;
  readonly tmpDir: string;
  /** For the runner's own files, which a job does not clean up with its temporary ones; it goes with the claim. */
  readonly ownDir: string;
  /** Absolute. */
  readonly buildsDir: string;
  /** What the far host calls itself. */
  readonly node: string;
  /**
   * Claim a directory inside of the builds directory, too, until all is released.
   * @returns why it is not the job's; `null`: it is
   * @throws {SystemFailure} nobody can tell
   */
  choose(path: string, signal: AbortSignal): Promise<string | null>;
  /**
   * Remove the job's temporary directory and let others have the working copy. Once `released` or `gone` nothing can follow.
   * @param evenIfLeft do not ask whether processes of the job are left
   * @returns `left`: nothing was done, there are some; `gone`: the claim was taken away before, whoever did it was to clean up
   * @throws {SystemFailure} the directory could not be removed, or nobody can tell
   */
  release(evenIfLeft: boolean, signal: AbortSignal): Promise<"released" | "left" | "gone">;
}

/** A claim as one program holds it. */
export interface HeldClaim extends Claim {
  /** Resolves when the program has ended, or the connection to it. */
  readonly over: Promise<void>;
}

const BEAT_MS = 60_000;
const MOST_ANSWER_BYTES = 64 * 1024;
/** Lines that the program may print until it is ready; six are usual. */
const MOST_LINES = 20;

/** @throws {SystemFailure} the builds directory cannot be written, the disk is full, the connection is gone */
export async function claimWorkingCopy(
  commands: RemoteCommands,
  request: ClaimRequest,
  signal: AbortSignal,
): Promise<HeldClaim> {
  const { projectPath, projectId, host } = request;
  const place = [bytesOf(projectPath), bytesOf(`project-${basename(projectId)}`)] as const;
  const held = await hold(commands, { script: CLAIM_PROGRAM, place, owner: request }, signal);
  if (held === null) throw refusal(host, "its answer makes no sense");
  return held;
}

/**
 * Takes over a claim whose connection, or whose runner, is gone.
 * @param ownDir `Claim.ownDir`: a job that was prepared twice may have another one, which nobody uses
 * @returns `null`: nobody has one any more, and what worked by it was ended
 * @throws {SystemFailure} nobody can tell
 */
export async function resumeClaim(
  commands: RemoteCommands,
  ownDir: string,
  owner: ClaimOwner,
  signal: AbortSignal,
): Promise<HeldClaim | null> {
  return await hold(commands, { script: RESUME_PROGRAM, place: [bytesOf(basename(ownDir)), ""], owner }, signal);
}

interface Holding {
  readonly script: string;
  /** The project's path, and its other name. */
  readonly place: readonly [string, string];
  readonly owner: ClaimOwner;
}

async function hold(
  commands: RemoteCommands,
  { script, place, owner }: Holding,
  signal: AbortSignal,
): Promise<HeldClaim | null> {
  const { buildsDir, runnerId, trust, jobKey, mark, killGraceMs, ephemeral, leaseMs, host } = owner;
  const input = new PassThrough();
  const life = new AbortController();
  const onAbort = (): void => life.abort(signal.reason);
  signal.throwIfAborted();
  signal.addEventListener("abort", onAbort, { once: true });
  const args = [
    bytesOf(buildsDir),
    runnerId,
    ...place,
    jobKey,
    mark,
    String(Math.ceil(killGraceMs / 1000)),
    ephemeral ? "ephemeral" : "",
    slotName("", trust),
    slotNames("").join(" "),
    String(Math.ceil(leaseMs / 1000)),
  ];
  try {
    const running = await commands.start({ script, args, stdin: input }, life.signal);
    const lines = readLines(running.stdout);
    const said = new Map<string, string>();
    for (let read = 0; ; read++) {
      const line = await lines.next();
      if (line === "ready") break;
      if (line === "gone") return null;
      if (read === MOST_LINES) throw refusal(host, "its answer makes no sense");
      if (line === null) {
        const { stderr } = await running.exit;
        throw refusal(host, said.get("failed") ?? stderr.trim());
      }
      const blank = line.indexOf(" ");
      said.set(line.slice(0, blank), line.slice(blank + 1));
    }
    const slot = Number(said.get("slot"));
    const [root, tmpDir, ownDir, builds] = ["root", "tmp", "claim", "builds"].map((name) => said.get(name));
    if (
      !Number.isSafeInteger(slot) ||
      !(root?.startsWith("/") && tmpDir?.startsWith("/") && ownDir?.startsWith("/") && builds?.startsWith("/"))
    ) {
      throw refusal(host, "its answer makes no sense");
    }
    const beat = setInterval(() => input.write("beat\n"), BEAT_MS);
    const over = running.exit.then(
      () => {},
      () => {},
    );
    void over.finally(() => clearInterval(beat));
    /** Has the program hear a word, and answer. */
    const ask = async <Answer>(word: string, until: AbortSignal, answered: () => Promise<Answer>): Promise<Answer> => {
      const stop = (): void => life.abort(until.reason);
      if (until.aborted) stop();
      until.addEventListener("abort", stop, { once: true });
      try {
        input.write(`${word}\n`);
        return await answered();
      } finally {
        until.removeEventListener("abort", stop);
      }
    };
    return {
      over,
      slot,
      root,
      tmpDir,
      ownDir,
      buildsDir: builds,
      node: said.get("node") || host,
      choose: (path, until) =>
        ask(`chosen ${path}`, until, async () => {
          const answer = await lines.next();
          if (answer === "chosen") return null;
          if (answer?.startsWith("refused ")) return printable(answer.slice("refused ".length));
          throw refusal(host, "its answer makes no sense");
        }),
      release: (evenIfLeft, until) =>
        ask(evenIfLeft ? "leave" : "bye", until, async () => {
          const answer = await lines.next();
          if (answer === "left") return "left";
          clearInterval(beat);
          input.end();
          await running.exit;
          if (answer?.startsWith("failed ")) {
            throw new SystemFailure(`Clean-up on ${host}: ${printable(answer.slice("failed ".length))}`);
          }
          return answer === "done" ? "released" : "gone";
        }),
    };
  } catch (error) {
    // Without a word of farewell the program takes its claim back by itself.
    input.end();
    life.abort(error);
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function bytesOf(text: string): string {
  return Buffer.from(text).toString("latin1");
}

function refusal(host: string, why: string): SystemFailure {
  const text = printable(why) || "no answer";
  const message = `There is no working copy for the job on ${host}: ${text}`;
  if (/Permission denied|Read-only file system|Not a directory|no home directory|cannot write to/i.test(why)) {
    return new SystemFailure(
      `${message}. Let the account write there, or set builds_dir to a directory in which it can`,
      { reason: "runner_configuration_error" },
    );
  }
  const full = /No space left|quota/i.test(why) ? ". Make room there" : "";
  return new SystemFailure(`${message}${full}`, { retry: true });
}

function printable(text: string): string {
  const plain = text.replace(/[^\x20-\x7e]+/g, " ");
  return plain.trim().slice(0, 500);
}

interface Lines {
  /** `null` at the end, and when the stream breaks. */
  next(): Promise<string | null>;
}

function readLines(stream: NodeJS.ReadableStream): Lines {
  const chunks = stream[Symbol.asyncIterator]();
  let text = Buffer.alloc(0);
  return {
    next: async () => {
      for (;;) {
        const end = text.indexOf(10);
        if (end >= 0) {
          const line = text.toString("utf8", 0, end);
          text = text.subarray(end + 1);
          return line;
        }
        if (text.length > MOST_ANSWER_BYTES) return null;
        const { done, value } = await chunks
          .next()
          .catch((error: unknown) => ({ done: true, value: describeError(error) }));
        if (done === true) return null;
        text = Buffer.concat([text, Buffer.from(value)]);
      }
    },
  };
}
