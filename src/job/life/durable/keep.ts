import { rmSync } from "node:fs";
import { uptime } from "node:os";
import { join } from "node:path";
import { describeError } from "../../../errors.ts";
import type { ScriptKeeping } from "../../../executor/environment.ts";
import { type CheckpointFile, openCheckpoints } from "../../../journal/live/checkpoint.ts";
import { type LifeEntry, openLife } from "../../../journal/live/life.ts";
import { createSeal, openPayload } from "../../../journal/live/payload.ts";
import type { Log } from "../../../log.ts";
import type { TraceKeeper, TracePosition } from "../../../trace/contract.ts";
import type { Job } from "../../job.ts";
import { checkpointOf, type RunningScript, resumeFrom } from "../stages/position.ts";
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
  /** To be called before a trace that shows what these stand for. */
  hide(secrets: readonly string[]): void;
  /** A script starts whose proof is `proof`. @returns its number in the job */
  begin(proof: string, script: StartedScript): KeptScript;
  /** The next process goes on with it: what is kept stays as it is. */
  letGo(): void;
  /** Nothing is to be gone on with any more: what was secret in it is gone when this returns. */
  end(): void;
}

export interface StartedScript extends Omit<RunningScript, "number"> {
  /** So much of its end is looked at when it has ended. */
  readonly tailBytes: number;
}

export interface KeptScript extends ScriptKeeping {
  exit(exit: { readonly code: number; readonly signal: string | null }): void;
  /** Nothing of its output comes any more. */
  end(): void;
}

export function keepJob(request: KeepRequest): KeptJob {
  const { dir, jobKey, job, entry, version, boot, log } = request;
  const path = (name: string): string => join(dir, name);
  const seal = createSeal(request.key, jobKey);
  const hidden = new Set(request.secrets);
  let checkpoints: CheckpointFile | undefined;
  let life: ReturnType<typeof openLife> | undefined;
  let running: RunningScript | undefined;
  /** Of its raw output, so much is not read again. */
  let passed = 0;
  let scripts = 0;
  let over = false;

  function letGo(): void {
    over = true;
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

  const payload = openPayload(path("payload"), seal);
  const note = (value: LifeEntry): void => keep(() => life?.append(value));
  const noteMasks = (): void => note({ kind: "masks", digest: seal.digest(hidden) });
  const notePosition = (position: TracePosition): void => {
    const script = running ?? { number: 0, from: position.chain.at, line: () => null };
    const checkpoint = checkpointOf(script, position);
    if (checkpoints?.write(checkpoint) === true) passed = resumeFrom(checkpoint).raw;
  };
  keep(() => {
    life = openLife(path("life"), version);
    checkpoints = openCheckpoints(path("at"));
    payload.append("job", { job, entry, prefixes: request.prefixes });
    noteMasks();
  });

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
    hide(secrets) {
      const known = hidden.size;
      for (const secret of secrets) hidden.add(secret);
      if (hidden.size === known) return;
      keep(() => payload.append("hide", secrets));
      noteMasks();
    },
    begin(proof, { tailBytes, ...script }) {
      const number = ++scripts;
      running = { number, ...script };
      passed = 0;
      note({ kind: "script", number, proof });
      return {
        begins: (place) => note({ kind: "place", number, place }),
        // Where nothing is kept any more, nobody goes on with it.
        settled: () => (over ? Number.POSITIVE_INFINITY : Math.max(0, passed - tailBytes)),
        exit: ({ code, signal }) => note({ kind: "exit", number, code, signal }),
        end() {
          running = undefined;
        },
      };
    },
    letGo: () => keep(letGo),
    end: () => keep(end),
  };
}
