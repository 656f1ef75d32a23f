import type { Note } from "../../../executor/prepare.ts";
import type { FoundCheckpoint } from "../../../journal/live/checkpoint.ts";
import type { LifeEntry } from "../../../journal/live/life.ts";
import type { SectionMarks } from "../../../trace/contract.ts";
import { addUsage, type JobUsage, type Outcome } from "../../job.ts";
import type { StageVerdict } from "../stages/verdicts.ts";
import type { WholeLife } from "./look.ts";

/** Where a job is that an earlier process of the runner has left, by what that process noted. */
export interface FoundProgress {
  /** By which its environment is found again; `null`: it cannot be, `undefined`: it was not made. */
  readonly handle: Note | null | undefined;
  /** Which try to make one was begun last, from 1; 0: none was. */
  readonly preparations: number;
  /** How much of its time is left, in milliseconds; `null`: that does not run yet. */
  readonly leftMs: number | null;
  readonly stops: readonly FoundStop[];
  /** How stages have ended, by their number in the plan. */
  readonly ended: ReadonlyMap<number, StageVerdict>;
  /** The last stage that began, where it has not ended. */
  readonly stage: FoundStage | null;
  /** Stages below this number have had their turn. */
  readonly next: number;
  /** How many of the lines behind the last stage are in the trace; `null`: it is not over. */
  readonly lastLines: number | null;
  readonly finished: Outcome | null;
  /** The trace has its first lines. */
  readonly greeted: boolean;
  /** The section of the trace that was begun and not ended. */
  readonly openSection: { readonly name: string; readonly marks: SectionMarks } | null;
  /** What the runner itself has said in the trace. */
  readonly lines: readonly string[];
  /** How long it was at each of its steps so far, the last one included: `null` is the making of its environment. */
  readonly spent: readonly { readonly stage: number | null; readonly ms: number }[];
  /** What its scripts have used that have ended. */
  readonly used: JobUsage;
  /** Nobody has looked for so long. */
  readonly awayMs: number;
  /** Times at which it was adopted from a process that has not left it to others, in seconds since the machine's start. */
  readonly adoptions: readonly number[];
}

export type FoundStop = Extract<LifeEntry, { kind: "stopping" }>;

export interface FoundStage {
  readonly number: number;
  /** How long ago it began. */
  readonly ageMs: number;
  /** Tries that have failed. */
  readonly failed: number;
  /** Scripts of the try that is under way. */
  readonly scripts: readonly FoundScript[];
  /** What the runner said in the trace since the stage began. */
  readonly lines: readonly string[];
}

export interface FoundScript {
  readonly number: number;
  readonly proof: string;
  /** `null`: nothing of it was started. */
  readonly place: Note | null;
  /** `null`: whether it has ended is for its place to tell. */
  readonly exit: FoundExit | null;
  /** Where the trace is in its output; `null`: it has none of it. */
  readonly checkpoint: FoundCheckpoint | null;
}

export interface FoundExit {
  readonly code: number;
  readonly signal: string | null;
  readonly read: boolean;
  readonly tail: string;
}

/** @param now seconds since the machine's start, which is the one that the job began in */
export function progressOf({ entries, checkpoint, tails }: WholeLife, now: number): FoundProgress {
  const of = <K extends LifeEntry["kind"]>(kind: K): Extract<LifeEntry, { kind: K }>[] =>
    entries.filter((entry): entry is Extract<LifeEntry, { kind: K }> => entry.kind === kind);
  const ms = (seconds: number): number => Math.max(0, seconds) * 1000;
  const limit = of("limit").at(-1);
  const last = of("begun").at(-1);
  const ended = new Map(of("ended").map(({ stage, verdict }) => [stage, verdict]));
  const overAt = entries.findLastIndex(({ kind }) => kind === "over");
  const steps = entries.flatMap((entry) => {
    if (entry.kind === "preparing") return { stage: null, at: entry.uptimeSeconds };
    return entry.kind === "begun" ? { stage: entry.stage, at: entry.uptimeSeconds } : [];
  });
  return {
    handle: of("prepared").at(-1)?.handle,
    preparations: of("preparing").at(-1)?.attempt ?? 0,
    leftMs: limit === undefined ? null : ms(limit.uptimeSeconds - now),
    stops: of("stopping"),
    ended,
    stage: last === undefined || ended.has(last.stage) ? null : stageFrom(last, entries, { checkpoint, tails }, now),
    next: last === undefined ? 0 : last.stage + (ended.has(last.stage) ? 1 : 0),
    lastLines: overAt < 0 ? null : ownLines(entries.slice(overAt)).length,
    finished: of("finished").at(-1)?.outcome ?? null,
    greeted: of("own").length > 0,
    openSection: openSectionOf(ownLines(entries)),
    lines: ownLines(entries),
    spent: steps.map(({ stage, at }, index) => ({ stage, ms: ms((steps[index + 1]?.at ?? now) - at) })),
    used: of("exit").reduce<JobUsage>((sum, { used = {} }) => addUsage(sum, used), {}),
    awayMs: ms(now - checkpoint.uptimeSeconds),
    adoptions: entries.flatMap((entry, index) =>
      entry.kind === "adopted" && entries[index - 1]?.kind !== "left" ? entry.uptimeSeconds : [],
    ),
  };
}

function stageFrom(
  begun: Extract<LifeEntry, { kind: "begun" }>,
  entries: readonly LifeEntry[],
  { checkpoint, tails }: Pick<WholeLife, "checkpoint" | "tails">,
  now: number,
): FoundStage {
  const since = entries.slice(entries.lastIndexOf(begun));
  const lastTry = since.findLast((entry) => entry.kind === "again");
  const ofTry = lastTry === undefined ? since : since.slice(since.lastIndexOf(lastTry));
  const scripts = ofTry.flatMap((entry): FoundScript[] => {
    if (entry.kind !== "script") return [];
    const { number, proof } = entry;
    const place = ofTry.findLast((one) => one.kind === "place" && one.number === number);
    const exit = ofTry.find((one) => one.kind === "exit" && one.number === number);
    return [
      {
        number,
        proof,
        place: place?.kind === "place" ? place.place : null,
        exit: exit?.kind === "exit" ? { ...exit, tail: tails.get(number) ?? "" } : null,
        checkpoint: checkpoint.script === number ? checkpoint : null,
      },
    ];
  });
  return {
    number: begun.stage,
    ageMs: Math.max(0, now - begun.uptimeSeconds) * 1000,
    failed: lastTry?.kind === "again" ? lastTry.attempt : 0,
    scripts,
    lines: ownLines(since),
  };
}

/** The section that was begun last in these lines, where it was not ended. */
export function openSectionOf(lines: readonly string[]): FoundProgress["openSection"] {
  const last = lines.findLast((line) => /section_(?:start|end):/.test(line)) ?? "";
  const name = /section_start:\d+:([a-z0-9_]+)/.exec(last)?.[1];
  return name === undefined ? null : { name, marks: last === lines.at(-1) ? "begun" : "open" };
}

/** Marks of this section that an earlier process has put into the trace. */
export function marksLeft(
  found: { readonly progress: FoundProgress } | undefined,
  name: string,
): SectionMarks | undefined {
  const open = found?.progress.openSection;
  return open?.name === name ? open.marks : undefined;
}

function ownLines(entries: readonly LifeEntry[]): string[] {
  return entries.flatMap((entry) => (entry.kind === "own" ? entry.text : []));
}
