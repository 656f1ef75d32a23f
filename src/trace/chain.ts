import type { ChainState } from "./contract.ts";
import { createMask } from "./mask/mask.ts";
import type { Patterns } from "./mask/patterns.ts";
import { createTextFilter } from "./mask/utf8.ts";

/**
 * The filters between a job's output and what is kept of it, in order. What comes out depends on the bytes alone, not on how
 * they were cut, so that another process that gets the same bytes from `state()` on gives the same. A further filter goes
 * behind these, with its part of `ChainState`; one that adds what the bytes do not tell, as the time, has to be told at a
 * replay what was added then.
 */
export interface Chain {
  /** What is decided by now. Valid until the next call. */
  push(bytes: Uint8Array): Buffer;
  /** What was held back: nothing follows that belongs to it. */
  flush(): Buffer;
  /** The mask's part of that, and from then on it looks for these. */
  renew(patterns: Patterns): Buffer;
  /** Bytes that come to nothing, whatever they are. */
  skip(count: number): void;
  state(): ChainState;
}

const NOTHING = Buffer.alloc(0);

/** @param from where an earlier chain was: the first `from.behind` bytes to come are those before it */
export function createChain(patterns: Patterns, from?: ChainState): Chain {
  let before: Buffer = NOTHING;
  let missing = from?.behind ?? 0;
  /** Bytes that came, in all. */
  let taken = from?.at ?? 0;
  let mask = createMask(patterns);
  let text = createTextFilter();

  function start(): void {
    if (from === undefined) return;
    const last = (count: number): Buffer => before.subarray(before.length - Math.min(count, before.length));
    mask = createMask(patterns, { state: from.mask, behind: last(from.mask.behind) });
    text = createTextFilter(last(from.character));
  }
  if (missing === 0) start();

  return {
    push(bytes) {
      let rest = bytes;
      if (missing > 0) {
        const lead = bytes.subarray(0, missing);
        before = Buffer.concat([before, lead]);
        missing -= lead.length;
        if (missing > 0) return NOTHING;
        start();
        rest = bytes.subarray(lead.length);
      }
      taken += rest.length;
      return text.push(mask.push(rest));
    },
    flush() {
      if (missing > 0) {
        // What was to come once more is lost: what comes next is something else.
        missing = 0;
        start();
      }
      // A copy: the first part may lie in the mask's memory.
      return Buffer.concat([text.push(mask.flush()), text.flush()]);
    },
    renew(next) {
      const rest = text.push(mask.flush());
      mask = createMask(next);
      return rest;
    },
    skip(count) {
      taken += count;
    },
    state() {
      if (missing > 0 && from !== undefined) return from;
      const state = mask.state();
      return {
        at: taken - mask.held,
        behind: Math.max(state.behind, text.held),
        character: text.held,
        mask: state,
      };
    },
  };
}
