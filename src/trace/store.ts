import { SystemFailure } from "../errors.ts";
import type { TraceOptions, TracePosition } from "./contract.ts";
import { createLimit, limitNotice } from "./limit.ts";
import { runnerLine, standoutLine } from "./lines.ts";
import { createReplay, type Replay, standingLines } from "./replay.ts";
import type { Spool } from "./spool.ts";
import { stampedBoundary } from "./stamp/header.ts";
import { createStamper, type Stamper } from "./stamp/stamper.ts";
import { stampedTail } from "./stamp/tail.ts";

const NEWLINE = 0x0a;
const NEWLINE_BYTES = Buffer.from("\n");
/** So long the beginning of a line waits for its end, where lines have times: whoever looks on sees a question, or dots. */
const HOLD_MS = 1000;
/** What a trace shows where it could not be continued as it was. */
const TWICE = "The trace could not be continued exactly; some lines may appear twice";
/** A trace is never so far beyond the last position that was kept. */
const MAX_REPLAY_BYTES = 16 * 1024 * 1024;

/** Where the lines of a trace come together: output and what the runner says, in order, within the limit. */
export interface Store {
  /** Output was cut: whatever follows of it can be dropped unseen. */
  readonly full: boolean;
  /** With times: the last line goes on, although a line break stands behind it. */
  readonly lineOpen: boolean;
  /** Masked, valid text of the job. */
  output(text: Buffer): void;
  /** Whole lines of a service. */
  service(lines: Buffer): void;
  /** Lines of the runner's own, on lines of their own. */
  line(line: Buffer, important: boolean): void;
  /** The same behind the end of the line that is being written. */
  aside(line: Buffer, important: boolean): void;
  /** Nothing waits for the end of its line. */
  flush(): void;
  /** The same, and nothing that an earlier process had comes any more. */
  settle(): void;
  readonly position: Omit<TracePosition, "chain">;
  /**
   * `position` is where it has come to. With times it is not while what was there before comes once more: how much of the spool
   * that is shows when it is over.
   */
  readonly located: boolean;
}

/** @throws {SystemFailure} `spool` does not reach to the position to go on from */
export async function openStore(spool: Spool, options: TraceOptions): Promise<Store> {
  const { resume, stamps } = options;
  if (resume === undefined) return createStore(spool, options, null, stamps ? createStamper() : null);
  const { position, lines } = resume;
  const beyond = spool.size - position.spool;
  if (beyond < 0 || beyond > MAX_REPLAY_BYTES) {
    throw new SystemFailure(
      `Cannot go on with the trace in "${options.path}": it has ${spool.size} bytes, and its position is at ${position.spool}`,
    );
  }
  const tail = await spool.read(position.spool, beyond);
  if (!stamps)
    return createStore(spool, options, createReplay(position.spool, tail, standingLines(lines, position.spool)), null);
  const { text, breaks, state, torn } = stampedTail(tail, position.stamps ?? { open: null, lastMicros: 0 });
  spool.append(torn);
  // What has its time already is compared without; what is put behind it gets another.
  const lacking = standingLines(lines, spool.size).map(({ bytes }) => ({ at: text.length, bytes }));
  return createStore(spool, options, createReplay(0, text, lacking, breaks), createStamper({ resume: state }));
}

function createStore(spool: Spool, options: TraceOptions, given: Replay | null, stamper: Stamper | null): Store {
  const { limitBytes, keeper } = options;
  const from = options.resume?.position;
  const counted = stamper === null ? from?.spool : spool.end;
  let replay = given;
  let limit = createLimit(limitBytes, counted ?? spool.size, from?.limit);
  let atLineStart = from?.lineStart ?? (spool.lastByte === undefined || spool.lastByte === NEWLINE);
  if (stamper !== null) atLineStart = true;
  /** What the runner has to say while what was there before is not complete. */
  const later: (() => void)[] = [];
  /** What it has to say once the line of output has ended. */
  const asides: (() => void)[] = [];
  let timer: NodeJS.Timeout | undefined;

  /** Whole lines where they have times: a header that is cut would be text to whoever reads it. */
  const cut = (bytes: Buffer, length: number): Buffer =>
    bytes.subarray(0, stamper === null ? length : stampedBoundary(bytes, length));

  function put(bytes: Uint8Array, lastWords = false): void {
    const { lacking, differs } =
      replay !== null && stamper === null ? replay.pass(bytes) : { lacking: bytes, differs: false };
    if (differs) giveUpReplay();
    spool.append(lacking, lastWords);
    if (differs) limit = createLimit(limitBytes, spool.end, limit.state);
  }

  /** It goes on behind what is there: better twice than not at all. */
  function giveUpReplay(): void {
    const lines = replay?.lackingLines() ?? [];
    replay = null;
    limit = createLimit(limitBytes, spool.end, limit.state);
    if (spool.end === spool.size) atLineStart = spool.lastByte === undefined || spool.lastByte === NEWLINE;
    line(runnerLine(TWICE, "warning"), true);
    for (const { bytes } of lines) line(bytes, true);
    sayLater();
  }

  function sayAsides(): void {
    for (const say of asides.splice(0)) say();
  }

  /** More of the script's last line may come. */
  function inLine(): boolean {
    return stamper === null ? !atLineStart : stamper.state.open === "script" || stamper.heldSince !== undefined;
  }

  /** How much of `bytes` comes before what waits for the end of a line. */
  function lineOf(bytes: Buffer): Buffer {
    return asides.length === 0 ? bytes : bytes.subarray(0, bytes.indexOf(NEWLINE) + 1 || bytes.length);
  }

  function sayLater(): void {
    for (const say of later.splice(0)) say();
  }

  /** Lines of the runner's own that stand where the trace has come to. */
  function repeatLines(): void {
    for (let own = replay?.takeLine(); own; own = replay?.takeLine()) {
      if (stamper !== null) {
        const { bytes } = own;
        // The break of the script's last line may be one that was added: if it was its own, that comes once more.
        if (inLine()) asides.push(() => putLine(bytes, true, true));
        else putLine(bytes, true, true);
        continue;
      }
      limit.admitLine(own.bytes, true);
      put(own.bytes, true);
      atLineStart = true;
    }
    if (replay?.over !== true) return;
    replay = null;
    sayLater();
  }

  function keepService(lines: Buffer): void {
    if (limit.reached) return;
    if (stamper !== null) keep(Buffer.concat([stamper.flush(), stamper.push("service", lines)]));
    else keep(atLineStart ? lines : Buffer.concat([NEWLINE_BYTES, lines]));
  }

  function keep(bytes: Buffer): void {
    for (let rest = bytes; rest.length > 0 && !limit.reached; ) {
      if (stamper === null && atLineStart && replay === null) sayAsides();
      const piece = replay === null && stamper === null ? lineOf(rest) : rest.subarray(0, replay?.room);
      rest = rest.subarray(piece.length);
      const kept = cut(piece, limit.admitOutput(piece));
      put(kept);
      if (kept.length > 0) atLineStart = kept.at(-1) === NEWLINE;
      if (limit.reached) putLine(standoutLine(limitNotice(limitBytes)), true, false);
      if (replay !== null && stamper === null) repeatLines();
    }
  }

  /** What of `text` has no time yet: what an earlier process gave one is compared only. */
  function stamp(stamper: Stamper, text: Buffer): void {
    let fresh = text;
    if (replay !== null) {
      const { lacking, differs } = replay.pass(text);
      fresh = text.subarray(text.length - lacking.length);
      if (differs) giveUpReplay();
      else repeatLines();
    }
    const line = lineOf(fresh);
    if (line.length > 0) keep(stamper.push("script", line));
    if (asides.length > 0 && line.at(-1) === NEWLINE) sayAsides();
    if (line.length < fresh.length) keep(stamper.push("script", fresh.subarray(line.length)));
    wait(stamper);
  }

  function line(text: Buffer, important: boolean): void {
    sayAsides();
    if (replay !== null) later.push(() => putLine(text, important, true));
    else putLine(text, important, true);
  }

  function aside(text: Buffer, important: boolean): void {
    if (replay !== null) later.push(() => aside(text, important));
    else if (!inLine()) putLine(text, important, true);
    else asides.push(() => putLine(text, important, true));
  }

  /** @param own it does not follow from the output */
  function putLine(text: Buffer, important: boolean, own: boolean): void {
    if (stamper !== null) keep(stamper.flush());
    const bytes = stamper === null ? text : stamper.push("runner", text);
    const whole = atLineStart ? bytes : Buffer.concat([NEWLINE_BYTES, bytes]);
    const kept = cut(whole, limit.admitLine(whole, important));
    if (kept.length === 0) return;
    if (own) keeper?.line(spool.end, stamper === null ? kept : text);
    put(kept, true);
    atLineStart = true;
  }

  function flush(): void {
    clearTimeout(timer);
    timer = undefined;
    if (stamper !== null) keep(stamper.flush());
  }

  /** Dots that come one by one do not wait for a line of them. */
  function wait({ heldSince }: Stamper): void {
    if (heldSince === undefined || timer !== undefined) return;
    const look = (): void => {
      timer = undefined;
      if (stamper?.heldSince === heldSince) flush();
      else if (stamper !== null) wait(stamper);
    };
    timer = setTimeout(look, HOLD_MS).unref();
  }

  if (replay !== null) repeatLines();
  return {
    get full() {
      return limit.reached;
    },
    get lineOpen() {
      return stamper !== null && stamper.state.open !== null;
    },
    output(text) {
      if (text.length === 0 || limit.reached) return;
      if (stamper === null) keep(text);
      else stamp(stamper, text);
    },
    service(lines) {
      // What an earlier process had is compared with what scripts print: services have to wait.
      if (replay !== null) later.push(() => keepService(lines));
      else keepService(lines);
    },
    line,
    aside,
    flush,
    settle() {
      flush();
      if (replay !== null && !replay.complete) giveUpReplay();
      replay = null;
      sayLater();
      sayAsides();
    },
    get located() {
      return replay === null || stamper === null;
    },
    get position() {
      return {
        spool: replay !== null && stamper === null ? replay.end : spool.end,
        lineStart: atLineStart,
        limit: limit.state,
        stamps: stamper?.state ?? null,
      };
    },
  };
}
