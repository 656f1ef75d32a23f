import { createLimit, limitNotice } from "./limit.ts";
import { standoutLine } from "./lines.ts";
import type { Spool } from "./spool.ts";
import { stampedBoundary } from "./stamp/header.ts";
import type { Stamper } from "./stamp/stamper.ts";

const NEWLINE = 0x0a;
const NEWLINE_BYTES = Buffer.from("\n");
/** So long the beginning of a line waits for its end, where lines have times: whoever looks on sees a question, or dots. */
const HOLD_MS = 1000;

/** Where the lines of a trace come together: output and what the runner says, in order, within the limit. */
export interface Store {
  /** Output was cut: whatever follows of it can be dropped unseen. */
  readonly full: boolean;
  /** Masked, valid text of the job. */
  output(text: Buffer): void;
  /** Whole lines of a service. */
  service(lines: Buffer): void;
  /** Lines of the runner's own, on lines of their own. */
  line(line: Buffer, important: boolean): void;
  /** Nothing waits for the end of its line. */
  flush(): void;
}

/** @param stamper `null`: lines have no times */
export function createStore(spool: Spool, limitBytes: number, stamper: Stamper | null): Store {
  const limit = createLimit(limitBytes, spool.size);
  let atLineStart = spool.lastByte === undefined || spool.lastByte === NEWLINE;
  let timer: NodeJS.Timeout | undefined;

  /** Whole lines where they have times: a header that is cut would be text to whoever reads it. */
  const cut = (bytes: Buffer, length: number): Buffer =>
    bytes.subarray(0, stamper === null ? length : stampedBoundary(bytes, length));

  function keep(bytes: Buffer): void {
    if (bytes.length === 0 || limit.reached) return;
    const kept = cut(bytes, limit.admitOutput(bytes));
    spool.append(kept);
    if (kept.length > 0) atLineStart = kept.at(-1) === NEWLINE;
    if (limit.reached) line(standoutLine(limitNotice(limitBytes)), true);
  }

  function line(text: Buffer, important: boolean): void {
    if (stamper !== null) keep(stamper.flush());
    const bytes = stamper === null ? text : stamper.push("runner", text);
    const whole = atLineStart ? bytes : Buffer.concat([NEWLINE_BYTES, bytes]);
    const kept = cut(whole, limit.admitLine(whole, important));
    spool.append(kept, true);
    if (kept.length > 0) atLineStart = true;
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

  return {
    get full() {
      return limit.reached;
    },
    output(text) {
      if (text.length === 0 || limit.reached) return;
      if (stamper === null) return keep(text);
      keep(stamper.push("script", text));
      wait(stamper);
    },
    service(lines) {
      if (limit.reached) return;
      if (stamper !== null) keep(Buffer.concat([stamper.flush(), stamper.push("service", lines)]));
      else keep(atLineStart ? lines : Buffer.concat([NEWLINE_BYTES, lines]));
    },
    line,
    flush,
  };
}
