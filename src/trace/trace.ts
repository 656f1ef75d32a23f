import { Writable } from "node:stream";
import { setImmediate as nextTurn } from "node:timers/promises";
import { drop } from "../files/tidy.ts";
import type { Tone } from "../shell.ts";
import { createChain } from "./chain.ts";
import type { Trace, TraceOptions, TracePosition } from "./contract.ts";
import { runnerLine } from "./lines.ts";
import { secretForms } from "./mask/disguises.ts";
import { maskText } from "./mask/mask.ts";
import { compilePatterns, type Patterns } from "./mask/patterns.ts";
import { createPositions } from "./positions.ts";
import { sectionHeading, sectionMarker } from "./sections.ts";
import { openSpool } from "./spool.ts";
import { cutTornHeader } from "./stamp/torn.ts";
import { openStore } from "./store.ts";

/** Worked on at a time. Smaller where a job's secrets make each byte costly, so that no turn takes long. */
const MAX_SLICE_BYTES = 64 * 1024;
const MIN_SLICE_BYTES = 1024;
const LONG_SLICE_MS = 15;

/**
 * A job's output → mask → valid text → times → limit → spool file, in order.
 * @throws {SystemFailure} the spool file cannot be opened, or does not reach to the position to go on from
 */
export async function openTrace(options: TraceOptions): Promise<Trace> {
  const secrets = new Set(options.secrets);
  const compile = (): Patterns => compilePatterns(secretForms(secrets), options.secretPrefixes);
  let patterns = compile();
  if (options.resume !== undefined && options.stamps === true) await cutTornHeader(options.path);
  const spool = await openSpool(options.path);
  const store = await openStore(spool, options).catch(async (error: unknown) => {
    await spool.close();
    throw error;
  });
  const { keeper, resume } = options;
  const chain = createChain(patterns, resume?.position.chain);
  const position = (): TracePosition => ({ ...store.position, chain: chain.state() });
  const positions =
    keeper === undefined
      ? undefined
      : createPositions(keeper, spool, () => (store.located ? position() : null), store.flush);
  const listeners = new Set<() => void>();
  /** What the runner itself has to say waits its turn between the writes of the script, as one of them. */
  const turns = new WeakMap<Uint8Array, () => void>();
  let sliceBytes = MAX_SLICE_BYTES / 4;
  let ended = false;
  let ending: Promise<void> | undefined;
  let leaving: Promise<void> | undefined;

  const masked = (text: string): string => maskText(patterns, text).toString();
  const notify = (): void => {
    for (const listener of listeners) listener();
  };
  spool.onGrowth(notify);

  function processSlice(bytes: Uint8Array): void {
    const start = performance.now();
    store.output(chain.push(bytes));
    if (store.full) chain.flush(); // nothing is to come of it
    const tookMs = performance.now() - start;
    if (tookMs > LONG_SLICE_MS) {
      sliceBytes = Math.max(MIN_SLICE_BYTES, Math.floor((Math.min(sliceBytes, bytes.length) * LONG_SLICE_MS) / tookMs));
    } else if (bytes.length === sliceBytes) sliceBytes = Math.min(MAX_SLICE_BYTES, sliceBytes * 2);
    positions?.look();
  }

  const dropping = (): boolean => store.full || spool.broken.aborted || ended || leaving !== undefined;

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
    positions?.look();
  }

  const output = new Writable({
    highWaterMark: 4 * MAX_SLICE_BYTES,
    write(chunk: Buffer, _encoding, done) {
      const turn = turns.get(chunk);
      if (turn !== undefined) turn();
      else if (dropping()) {
        chain.skip(chunk.length);
        drop(chunk);
        positions?.look();
        return done();
      } else if (chunk.length > sliceBytes) {
        processLong(chunk)
          .finally(() => drop(chunk))
          .then(() => done(), done);
        return;
      } else {
        processSlice(chunk);
        drop(chunk);
      }
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

  const services = new Writable({
    decodeStrings: false,
    write(chunk: string | Buffer, _encoding, done) {
      const lines = maskText(patterns, chunk.toString());
      inTurn(() => {
        if (!ended && leaving === undefined) store.service(lines);
        done();
      });
    },
  });
  services.on("error", () => {});

  async function flush(): Promise<void> {
    if (leaving !== undefined) return await leaving;
    await new Promise<void>((resolve) =>
      inTurn(() => {
        if (leaving === undefined) {
          store.output(chain.flush());
          store.settle();
          positions?.note();
        }
        resolve();
      }),
    );
    await spool.written();
  }

  function mark(edge: "start" | "end", name: string): void {
    const unixSeconds = Math.floor(Date.now() / 1000);
    inTurn(() => {
      if (leaving !== undefined) return;
      store.line(sectionMarker(edge, name, unixSeconds), false);
      positions?.look();
    });
  }

  /** With times a script's first line is not the marker's any more, and a section has no name without one. */
  function head(name: string): void {
    if (options.stamps !== true) return;
    inTurn(() => {
      if (leaving !== undefined) return;
      store.line(runnerLine(sectionHeading(name), "notice"), false);
      positions?.look();
    });
  }

  async function end(): Promise<void> {
    await flush();
    positions?.end();
    ended = true;
    notify();
  }

  function say(text: string, tone: Tone, put: (line: Buffer, important: boolean) => void): void {
    if (ended) return;
    const line = runnerLine(masked(text), tone);
    inTurn(() => {
      if (leaving !== undefined) return;
      put(line, tone !== "plain");
      positions?.look();
    });
  }

  async function leave(): Promise<void> {
    store.flush();
    positions?.note();
    await spool.written();
    positions?.end();
  }

  return {
    output,
    services,
    get size() {
      return spool.size;
    },
    get ended() {
      return ended;
    },
    broken: spool.broken,
    get lineOpen() {
      return store.lineOpen;
    },
    locate() {
      store.flush();
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
        if (leaving !== undefined) return;
        store.output(chain.renew(patterns));
        store.flush();
        positions?.note();
      });
    },
    mask: masked,
    print: (text, tone = "plain") => say(text, tone, store.line),
    aside: (text, tone = "plain") => say(text, tone, store.aside),
    async section(name, body, left) {
      if (!options.sections) return body();
      if (left === undefined) mark("start", name);
      if (left === undefined || left === "begun") head(name);
      try {
        return await body();
      } finally {
        await flush();
        if (left !== "closed") mark("end", name);
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
    letGo: () => (leaving ??= leave()),
    async close() {
      await (leaving ?? (ending ??= end()));
      await spool.close();
    },
  };
}
