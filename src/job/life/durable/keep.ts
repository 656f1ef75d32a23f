import { rmSync } from "node:fs";
import { uptime } from "node:os";
import { join } from "node:path";
import { describeError } from "../../../errors.ts";
import type { Exit, ScriptKeeping } from "../../../executor/environment.ts";
import { type CheckpointFile, openCheckpoints } from "../../../journal/live/checkpoint.ts";
import { type LifeEntry, openLife } from "../../../journal/live/life.ts";
import { createSeal, openPayload } from "../../../journal/live/payload.ts";
import type { Log } from "../../../log.ts";
import type { TraceKeeper, TracePosition } from "../../../trace/contract.ts";
import type { Job, JobUsage, Variable } from "../../job.ts";
import { checkpointOf, type RunningScript, resumeFrom } from "../stages/position.ts";
import type { WholeLife } from "./look.ts";
import type { StoredPlan } from "./stored-plan.ts";

export interface KeepRequest {
  /** The job's directory in the journal. */
  readonly dir: string;
  readonly jobKey: string;
  /** The runner's (`findKey`). */
  readonly key: Buffer;
  /** The runner's version. */
  readonly version: string;
  /** Of the machine. */
  readonly boot: string;
  readonly job: Job;
  /** What stood in the config file for its entry. */
  readonly entry: string;
  readonly secrets: readonly string[];
  /** What tokens begin with that are masked, too. */
  readonly prefixes: readonly string[];
  readonly log: Log;
}

/**
 * What is kept of a running job so that the runner's next process finds out where it is: its steps, its output's place, and,
 * encrypted, what was received and planned. Each is kept before it is done. Nothing of it throws: a job of which something
 * could not be kept goes on, and ends with this process if that ends first.
 */
export interface KeptJob {
  /** All that it did is kept: the next process can go on with it. */
  readonly whole: boolean;
  readonly keeper: TraceKeeper;
  note(entry: LifeEntry): void;
  /** So long it may run from now on. */
  limit(timeoutMs: number): void;
  plan(plan: StoredPlan): void;
  /** What stores of secrets have told. */
  variables(own: readonly Variable[]): void;
  /** To be called before a trace that shows what these stand for. */
  hide(secrets: readonly string[]): void;
  /** A script starts whose proof is `proof`. @returns its number in the job */
  begin(proof: string, script: StartedScript): KeptScript;
  /** An earlier process has begun script `number`: its output goes on. */
  goOn(number: number, script: StartedScript): KeptScript;
  /** The next process goes on with it: what is kept stays as it is. */
  letGo(): void;
  /** Nothing is to be gone on with any more: what was secret in it is gone when this returns. */
  end(): void;
}

export interface StartedScript extends Omit<RunningScript, "number"> {
  /** So many of its last bytes may be looked at again. */
  readonly tailBytes: number;
}

export interface KeptScript extends Pick<ScriptKeeping, "begins" | "settled"> {
  /** Its output is in the trace and on disk. `tail`: what it said last. */
  exit(exit: Exit & { readonly read: boolean; readonly used?: JobUsage }, tail: string): void;
  /** Nothing of its output comes any more. */
  end(): void;
}

/** So often it is noted that somebody looks. */
const BEAT_MS = 1000;

/** @param earlier what an earlier process has kept of the job, which goes on */
export function keepJob(request: KeepRequest, earlier?: WholeLife): KeptJob {
  const { dir, jobKey, job, entry, version, boot, log } = request;
  const path = (name: string): string => join(dir, name);
  const seal = createSeal(request.key, jobKey);
  const hidden = new Set(request.secrets);
  let checkpoints: CheckpointFile | undefined;
  let life: ReturnType<typeof openLife> | undefined;
  let running = earlier === undefined ? undefined : leftBy(earlier);
  let scripts = Math.max(0, ...(earlier?.entries ?? []).flatMap((one) => (one.kind === "script" ? one.number : [])));
  /** Of the script that runs: what of its output is in the trace, whatever becomes of this process. */
  let settled = 0;
  let tailBytes = 0;
  let over = false;
  let beat: NodeJS.Timeout | undefined;

  function letGo(): void {
    over = true;
    clearInterval(beat);
    checkpoints?.close();
    life?.close();
  }

  function end(): void {
    letGo();
    rmSync(path("payload"), { force: true });
  }

  function keep(work: () => void): void {
    if (over) return;
    try {
      work();
    } catch (error) {
      log.warn("what this job does cannot be kept: it will end with this process", { problem: describeError(error) });
      // With a step missing, what is there would be taken for all that has happened.
      try {
        end();
      } catch {
        // It has been said.
      }
    }
  }

  const payload = openPayload(path("payload"), seal, earlier?.payload);
  const note = (value: LifeEntry): void => keep(() => life?.append(value));
  const noteMasks = (): void => note({ kind: "masks", digest: seal.digest(hidden) });
  const notePosition = (position: TracePosition): void => {
    const script = running ?? { number: 0, from: position.chain.at, line: () => null };
    const checkpoint = checkpointOf(script, position);
    if (checkpoints?.write(checkpoint) === true && running !== undefined)
      settled = Math.max(settled, resumeFrom(checkpoint).raw - tailBytes);
  };
  keep(() => {
    life = openLife(path("life"), version, earlier?.lifeBytes);
    checkpoints = openCheckpoints(path("at"), earlier?.checkpoint.seq);
    if (earlier === undefined) {
      payload.append("job", { job, entry, prefixes: request.prefixes });
      noteMasks();
      checkpoints.write({ script: 0, proof: null, trace: AT_THE_BEGINNING });
    } else {
      const { seq: _, uptimeSeconds: __, ...checkpoint } = earlier.checkpoint;
      note({ kind: "adopted", uptimeSeconds: uptime(), pid: process.pid });
      checkpoints.write(checkpoint);
    }
    beat = setInterval(() => keep(() => checkpoints?.beat()), BEAT_MS).unref();
  });

  const follow = (number: number, { tailBytes: bytes, ...script }: StartedScript): KeptScript => {
    running = { number, ...script };
    settled = 0;
    tailBytes = bytes;
    return {
      begins: (place) => note({ kind: "place", number, place }),
      // Of a job that is not kept any more nothing is read again.
      settled: () => (over ? Number.POSITIVE_INFINITY : settled),
      exit(exit, tail) {
        if (tail !== "") keep(() => payload.append("tail", { number, text: tail }));
        note({ kind: "exit", number, ...exit });
      },
      end() {
        running = undefined;
      },
    };
  };

  return {
    get whole() {
      return !over;
    },
    keeper: {
      line: (at, bytes) => note({ kind: "own", at, text: bytes.toString("utf8") }),
      reached: (position) => keep(() => notePosition(position)),
    },
    note,
    limit: (timeoutMs) => note({ kind: "limit", uptimeSeconds: uptime() + timeoutMs / 1000, boot }),
    plan: (plan) => keep(() => payload.append("plan", plan)),
    variables: (own) => keep(() => payload.append("variables", own)),
    hide(secrets) {
      const known = hidden.size;
      for (const secret of secrets) hidden.add(secret);
      if (hidden.size === known) return;
      keep(() => payload.append("hide", secrets));
      noteMasks();
    },
    begin(proof, script) {
      const number = ++scripts;
      note({ kind: "script", number, proof });
      return follow(number, script);
    },
    goOn: follow,
    letGo() {
      note({ kind: "left" });
      keep(letGo);
    },
    end: () => keep(end),
  };
}

/** Where a trace is before anything is in it. */
const AT_THE_BEGINNING: TracePosition = {
  spool: 0,
  lineStart: true,
  limit: { beyond: 0, reached: false },
  chain: { at: 0, behind: 0, character: 0, mask: { behind: 0, covered: 0, word: "none", url: "none" } },
  stamps: null,
};

/** The script that ran when the checkpoint was written: where its output has come to counts on until it is gone on with. */
function leftBy({ checkpoint: { script, proof } }: WholeLife): RunningScript | undefined {
  return script === 0 ? undefined : { number: script, from: 0, line: () => proof };
}
