import { Writable } from "node:stream";
import { setImmediate as nextTurn } from "node:timers/promises";
import { SystemFailure } from "../errors.ts";
import type { Tone } from "../shell.ts";
import { createChain } from "./chain.ts";
import type { Trace, TraceOptions, TracePosition, TraceResume } from "./contract.ts";
import { createLimit, limitNotice } from "./limit.ts";
import { runnerLine, standoutLine } from "./lines.ts";
import { secretForms } from "./mask/disguises.ts";
import { maskText } from "./mask/mask.ts";
import { compilePatterns, type Patterns } from "./mask/patterns.ts";
import { createPositions } from "./positions.ts";
import { createReplay, type Replay } from "./replay.ts";
import { sectionMarker } from "./sections.ts";
import { openSpool, type Spool } from "./spool.ts";

/** Worked on at a time. Smaller where a job's secrets make each byte costly, so that no turn takes long. */
const MAX_SLICE_BYTES = 64 * 1024;
const MIN_SLICE_BYTES = 1024;
const LONG_SLICE_MS = 15;
/** What a trace shows where it could not be continued as it was. */
const TWICE = "The trace could not be continued exactly; some lines may appear twice";
/** A trace is never so far beyond the last position that was kept. */
const MAX_REPLAY_BYTES = 16 * 1024 * 1024;

const NEWLINE = 0x0a;
const NEWLINE_BYTES = Buffer.from("\n");

/**
 * A job's output → mask → valid text → limit → spool file, in order.
 * @throws {SystemFailure} the spool file cannot be opened, or does not reach to the position to go on from
 */
export async function openTrace(options: TraceOptions): Promise<Trace> {
  const secrets = new Set(options.secrets);
  const compile = (): Patterns => compilePatterns(secretForms(secrets), options.secretPrefixes);
  let patterns = compile();
  const spool = await openSpool(options.path);
  const { keeper, resume } = options;
  const from = resume?.position;
  const chain = createChain(patterns, from?.chain);
  let limit = createLimit(options.limitBytes, from?.spool ?? spool.size, from?.limit);
  let replay = resume === undefined ? undefined : await replayOf(spool, resume, options.path);
  /** What the runner itself has to say while what was there before is not complete. */
  const later: (() => void)[] = [];
  const listeners = new Set<() => void>();
  /** What the runner itself has to say waits its turn between the writes of the script, as one of them. */
  const turns = new WeakMap<Uint8Array, () => void>();
  let atLineStart = from?.lineStart ?? (spool.lastByte === undefined || spool.lastByte === NEWLINE);
  let sliceBytes = MAX_SLICE_BYTES / 4;
  let ended = false;
  let ending: Promise<void> | undefined;

  const masked = (text: string): string => maskText(patterns, text).toString();
  const notify = (): void => {
    for (const listener of listeners) listener();
  };
  spool.onGrowth(notify);

  const position = (): TracePosition => ({
    spool: replay?.end ?? spool.end,
    lineStart: atLineStart,
    limit: limit.state,
    chain: chain.state(),
  });
  const positions = keeper === undefined ? undefined : createPositions(keeper, spool, position);

  function put(bytes: Uint8Array, lastWords = false): void {
    const { lacking, differs } = replay?.pass(bytes) ?? { lacking: bytes, differs: false };
    if (differs) giveUpReplay();
    spool.append(lacking, lastWords);
    if (differs) limit = createLimit(options.limitBytes, spool.end, limit.state);
  }

  /** It goes on behind what is there: better twice than not at all. */
  function giveUpReplay(): void {
    const lines = replay?.lackingLines() ?? [];
    replay = undefined;
    limit = createLimit(options.limitBytes, spool.end, limit.state);
    if (spool.end === spool.size) atLineStart = spool.lastByte === NEWLINE;
    storeLine(runnerLine(TWICE, "warning"), true);
    for (const { bytes } of lines) storeLine(bytes, true);
    for (const storeNow of later.splice(0)) storeNow();
  }

  /** Lines of the runner's own that stand where the trace has come to. */
  function repeatLines(): void {
    for (let line = replay?.takeLine(); line; line = replay?.takeLine()) {
      limit.admitLine(line.bytes, true);
      put(line.bytes, true);
      atLineStart = true;
    }
    if (replay?.over !== true) return;
    replay = undefined;
    for (const storeNow of later.splice(0)) storeNow();
  }

  function storeOutput(text: Buffer): void {
    for (let rest = text; rest.length > 0 && !limit.reached; ) {
      const piece = replay === undefined ? rest : rest.subarray(0, replay.room);
      rest = rest.subarray(piece.length);
      const kept = piece.subarray(0, limit.admitOutput(piece));
      put(kept);
      if (kept.length > 0) atLineStart = kept.at(-1) === NEWLINE;
      if (limit.reached) {
        putLine(standoutLine(limitNotice(options.limitBytes)), true);
        chain.flush(); // nothing is to come of it
      }
      if (replay !== undefined) repeatLines();
    }
  }

  function storeLine(line: Buffer, important: boolean): void {
    if (replay !== undefined) later.push(() => putLine(line, important, true));
    else putLine(line, important, true);
  }

  /** @param own it does not follow from the output */
  function putLine(line: Buffer, important: boolean, own = false): void {
    const whole = atLineStart ? line : Buffer.concat([NEWLINE_BYTES, line]);
    const kept = whole.subarray(0, limit.admitLine(whole, important));
    if (kept.length === 0) return;
    if (own) keeper?.line(spool.end, kept);
    put(kept, true);
    atLineStart = true;
  }

  function processSlice(bytes: Uint8Array): void {
    const start = performance.now();
    storeOutput(chain.push(bytes));
    const tookMs = performance.now() - start;
    if (tookMs > LONG_SLICE_MS) {
      sliceBytes = Math.max(MIN_SLICE_BYTES, Math.floor((Math.min(sliceBytes, bytes.length) * LONG_SLICE_MS) / tookMs));
    } else if (bytes.length === sliceBytes) sliceBytes = Math.min(MAX_SLICE_BYTES, sliceBytes * 2);
    positions?.look();
  }

  const dropping = (): boolean => limit.reached || spool.broken.aborted || ended;

  async function processLong(bytes: Uint8Array): Promise<void> {
    let turnStart = performance.now();
    let at = 0;
    while (at < bytes.length && !dropping()) {
      const slice = bytes.subarray(at, at + sliceBytes);
      processSlice(slice);
      at += slice.length;
      if (spool.crowded) await spool.room();
      if (performance.now() - turnStart < LONG_SLICE_MS) continue;
      await nextTurn();
      turnStart = performance.now();
    }
    chain.skip(bytes.length - at);
  }

  const output = new Writable({
    highWaterMark: 4 * MAX_SLICE_BYTES,
    write(chunk: Buffer, _encoding, done) {
      const turn = turns.get(chunk);
      if (turn !== undefined) turn();
      else if (dropping()) {
        chain.skip(chunk.length);
        return done();
      } else if (chunk.length > sliceBytes) {
        processLong(chunk).then(() => done(), done);
        return;
      } else processSlice(chunk);
      if (spool.crowded) spool.room().then(() => done(), done);
      else done();
    },
  });
  // Whoever destroys the stream by mistake loses its own output only; a stream without this would end the process.
  output.on("error", () => {});

  function inTurn(act: () => void): void {
    let acted = false;
    const once = (): void => {
      if (!acted) act();
      acted = true;
    };
    const turn = Buffer.alloc(0);
    turns.set(turn, once);
    if (output.destroyed || output.writableEnded) once();
    else output.write(turn, once); // the callback comes also when the stream is destroyed before the turn comes
  }

  function say(line: Buffer, important: boolean): void {
    inTurn(() => {
      storeLine(line, important);
      positions?.look();
    });
  }

  async function flush(): Promise<void> {
    await new Promise<void>((resolve) =>
      inTurn(() => {
        storeOutput(chain.flush());
        if (replay !== undefined) giveUpReplay();
        positions?.note();
        resolve();
      }),
    );
    await spool.written();
  }

  function mark(edge: "start" | "end", name: string): void {
    const unixSeconds = Math.floor(Date.now() / 1000);
    say(sectionMarker(edge, name, unixSeconds), false);
  }

  if (replay !== undefined) repeatLines();

  async function end(): Promise<void> {
    await flush();
    ended = true;
    notify();
  }

  return {
    output,
    get size() {
      return spool.size;
    },
    get ended() {
      return ended;
    },
    broken: spool.broken,
    get position() {
      return position();
    },
    get crc32() {
      return spool.crc32;
    },
    hide(more) {
      const known = secrets.size;
      for (const secret of more) secrets.add(secret);
      if (secrets.size === known) return;
      patterns = compile();
      inTurn(() => {
        storeOutput(chain.renew(patterns));
        positions?.note();
      });
    },
    mask: masked,
    print(text: string, tone: Tone = "plain") {
      if (ended) return;
      say(runnerLine(masked(text), tone), tone !== "plain");
    },
    async section(name, body) {
      if (!options.sections) return body();
      mark("start", name);
      try {
        return await body();
      } finally {
        await flush();
        mark("end", name);
      }
    },
    flush,
    read: (from, maxBytes, into) => spool.read(from, maxBytes, into),
    watch(listener) {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
      };
    },
    end: () => (ending ??= end()),
    async close() {
      await (ending ??= end());
      await spool.close();
    },
  };
}

/** What the spool of `path` has beyond the position to go on from. */
async function replayOf(spool: Spool, { position, lines }: TraceResume, path: string): Promise<Replay> {
  const beyond = spool.size - position.spool;
  if (beyond >= 0 && beyond <= MAX_REPLAY_BYTES) {
    return createReplay(position.spool, await spool.read(position.spool, beyond), lines);
  }
  await spool.close();
  throw new SystemFailure(
    `Cannot go on with the trace in "${path}": it has ${spool.size} bytes, and its position is at ${position.spool}`,
  );
}
