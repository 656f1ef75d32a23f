import { useEffect, useRef, useState } from "preact/hooks";
import type { JobLine, TraceLine } from "../../../control/protocol.ts";
import { tracePath } from "../api.ts";
import { createTraceReader } from "./reader.ts";
import { createSheet, type Sheet } from "./sheet.ts";

/** At most so much of the beginning of a trace is left out at first. */
const TAIL_BYTES = 2_000_000;

/** A job's trace as it is written. */
export function Trace({ job }: { readonly job: JobLine }) {
  const box = useRef<HTMLDivElement>(null);
  const sheet = useRef<Sheet | null>(null);
  const follows = useRef(true);
  const [following, setFollowing] = useState(true);
  const [note, setNote] = useState("");
  const [left, setLeft] = useState(0);
  const [wrapped, setWrapped] = useState(true);
  const [hits, setHits] = useState("");

  const lastTop = useRef(0);

  const toEnd = (): void => {
    if (follows.current) box.current?.scrollTo({ top: box.current.scrollHeight });
  };
  const follow = (is: boolean): void => {
    follows.current = is;
    setFollowing(is);
    toEnd();
  };

  useEffect(() => {
    const root = box.current;
    if (root === null) return;
    root.replaceChildren();
    const mine = createSheet(root, setLeft);
    sheet.current = mine;
    const reader = createTraceReader();
    let waiting = "";
    let frame = 0;
    const draw = (): void => {
      frame = 0;
      const text = waiting;
      waiting = "";
      mine.add(reader.write(text), reader.rest);
      toEnd();
      // Lines get their height when they come into view.
      requestAnimationFrame(toEnd);
    };
    const source = new EventSource(tracePath(job, job.traceBytes > TAIL_BYTES ? -TAIL_BYTES : 0));
    source.addEventListener("message", ({ data }: MessageEvent<string>) => {
      const line: TraceLine = JSON.parse(data);
      if ("end" in line) {
        source.close();
        setNote("");
        return;
      }
      waiting += line.text;
      if (frame === 0) frame = requestAnimationFrame(draw);
    });
    source.addEventListener("open", () => setNote(""));
    source.addEventListener("error", () => {
      const over = source.readyState === EventSource.CLOSED;
      setNote(over ? "The trace is not here any more: its coordinator has it." : "The runner does not answer …");
    });
    return () => {
      source.close();
      cancelAnimationFrame(frame);
    };
  }, [job.id, job.runnerId]);

  const onScroll = (): void => {
    const root = box.current;
    if (root === null) return;
    const atEnd = root.scrollHeight - root.scrollTop - root.clientHeight < 24;
    // Only whoever scrolls up wants to stay there: growing output moves the end away as well.
    const up = root.scrollTop < lastTop.current - 2;
    lastTop.current = root.scrollTop;
    if (atEnd === follows.current || (!atEnd && !up)) return;
    follows.current = atEnd;
    setFollowing(atEnd);
  };
  const find = (text: string): void => {
    const count = sheet.current?.find(text) ?? 0;
    setHits(text === "" ? "" : count === 0 ? "none" : `${count}`);
    if (count > 0) step(1);
  };
  const step = (by: 1 | -1): void => {
    follow(false);
    const at = sheet.current?.step(by) ?? 0;
    setHits((before) => (at === 0 ? before : `${at} of ${before.split(" ").at(-1)}`));
  };

  return (
    <section class="trace" aria-label="Trace">
      <div class="tools" role="toolbar" aria-label="Trace">
        <search>
          <input
            type="search"
            placeholder="Search the trace"
            aria-label="Search the trace"
            onInput={({ currentTarget }) => find(currentTarget.value)}
            onKeyDown={(event) => {
              if (event.key !== "Enter") return;
              event.preventDefault();
              step(event.shiftKey ? -1 : 1);
            }}
          />
          <button type="button" aria-label="Previous match" onClick={() => step(-1)}>
            ↑
          </button>
          <button type="button" aria-label="Next match" onClick={() => step(1)}>
            ↓
          </button>
          <output>{hits}</output>
        </search>
        <button type="button" aria-pressed={following} onClick={() => follow(!following)}>
          Follow
        </button>
        <button type="button" aria-pressed={wrapped} onClick={() => setWrapped(!wrapped)}>
          Wrap
        </button>
        <button type="button" onClick={() => sheet.current?.fold(true)}>
          Fold all
        </button>
        <button type="button" onClick={() => sheet.current?.fold(false)}>
          Unfold all
        </button>
      </div>
      {left > 0 && (
        <p class="quiet">
          {left} earlier lines are not shown. “alloy-runner logs {job.id}” prints all.
        </p>
      )}
      {note !== "" && (
        <p class="notice" role="status">
          {note}
        </p>
      )}
      <div
        class={wrapped ? "sheet wrapped" : "sheet"}
        ref={box}
        role="log"
        aria-live="off"
        aria-label="Output"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: whoever has no mouse scrolls it by the keyboard
        tabIndex={0}
        onScroll={onScroll}
      />
    </section>
  );
}
