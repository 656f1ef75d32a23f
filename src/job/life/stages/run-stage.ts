import { handsOver, ScriptFailure, Stop, SystemFailure } from "../../../errors.ts";
import type { Environment, Exit } from "../../../executor/environment.ts";
import type { Log } from "../../../log.ts";
import type { Op } from "../../../shell.ts";
import { deadline, retry } from "../../../time.ts";
import type { Trace } from "../../../trace/contract.ts";
import type { TransferMeans } from "../../../transfer/transfer.ts";
import type { Job } from "../../job.ts";
import { formatDuration } from "../../plan/duration.ts";
import type { ScriptStage, Stage, TransferStage } from "../../plan/stage.ts";
import { type Draft, draft, type Writers } from "../../plan/writers.ts";
import { adviceOn, type GitTrouble, gitTroubleOf } from "../../sources/git-failure.ts";
import type { FoundScript, FoundStage } from "../durable/found.ts";
import type { KeptJob } from "../durable/keep.ts";
import { describeExit } from "../outcome/outcome.ts";
import { lateHandOver } from "../signals.ts";
import { openOutput, type Ran } from "./output.ts";
import { createProof } from "./proof.ts";
import { runTransfer } from "./run-transfer.ts";
import { sayingOnce, wasSaid } from "./said.ts";
import { checkScriptSize } from "./script-size.ts";

/** Enough for what git says last, and for a server's explanation before it. */
const TAIL_BYTES = 8 * 1024;
/** What the runner's next process would begin anew may take so much longer when it is handed over to: files are moved, for one. */
const LAST_MOVE_MS = 5000;

export interface StageContext {
  readonly job: Job;
  readonly transfers: TransferMeans;
  readonly environment: Environment;
  readonly writers: Writers;
  readonly trace: Trace;
  readonly log: Log;
  /** `CI_DEBUG_TRACE`. */
  readonly xtrace: boolean;
  readonly kept?: KeptJob;
  /** Before the second attempt of a stage; it grows from try to try. */
  readonly attemptPauseMs: number;
  /** `CI_JOB_STATUS`. */
  readonly status: string;
  /** What an earlier process has done of the stage. */
  readonly found?: FoundStage;
}

/**
 * One stage of a job, with its attempts and its time limit, up to success: a script, or files that are moved.
 * @throws {ScriptFailure} it ended with another status than 0
 * @throws {SystemFailure} it could not be run, or its script was not read, or the network failed the runner's own work
 * @throws {Stop} the signal's reason, or the stage's own limit
 */
export async function runStage(stage: Stage, context: StageContext, signal: AbortSignal): Promise<void> {
  const { attempts, timeoutMs } = stage.policy;
  const limit = timeoutMs ?? Number.POSITIVE_INFINITY;
  const { found, kept, trace } = context;
  const tooLong = new Stop("timed_out", `${stage.title} took longer than ${formatDuration(limit)}`);
  using clock = deadline(signal, limit - (found?.ageMs ?? 0), tooLong);
  const failed = found?.failed ?? 0;
  if (stage.kind === "script" && stage.setsAside !== undefined && failed === 0 && !found?.scripts.length) {
    await context.transfers.keptCaches.setAside(stage.setsAside, context.environment.workspace, clock.signal);
  }
  const running = found?.scripts.at(-1)?.exit === null;
  // Whoever goes on with a script ends it where that is wanted by now.
  if (running && stage.kind === "script" && clock.signal.aborted) {
    await runOnce(stage, { ...context, scripts: found?.scripts ?? [] }, clock.signal);
  }
  await retry(
    {
      attempts: attempts - failed,
      firstMs: context.attemptPauseMs,
      maxMs: context.attemptPauseMs * 10,
      retryable: (error) => error instanceof ScriptFailure || (error instanceof SystemFailure && error.retry),
      onRetry: (error, tried, waitMs) => {
        const attempt = tried + failed;
        const why = error instanceof Error ? error.message : "unknown error";
        const what = `Attempt ${attempt} of ${attempts} failed: `;
        if (!wasSaid(what, found)) {
          trace.print(`${what}${why}. Trying again in ${formatDuration(waitMs)}`, "warning");
        }
        kept?.note({ kind: "again", attempt });
      },
    },
    (tried) =>
      stage.kind === "script"
        ? runOnce(stage, { ...context, scripts: tried === 1 ? (found?.scripts ?? []) : [] }, clock.signal)
        : move(stage, context, clock.signal),
    clock.signal,
  );
}

async function move({ transfer }: TransferStage, context: StageContext, signal: AbortSignal): Promise<void> {
  const { job, trace, log, environment, transfers, attemptPauseMs, found } = context;
  using late = lateHandOver(signal, LAST_MOVE_MS);
  const { workspace, formerCache } = environment;
  const around = {
    ...transfers,
    job,
    files: workspace,
    ...(formerCache === undefined ? {} : { formerCache }),
    trace: sayingOnce(trace, found),
    log,
    retryPauseMs: attemptPauseMs / 2,
  };
  try {
    await runTransfer(transfer, around, late.signal);
  } finally {
    await trace.flush();
  }
  late.signal.throwIfAborted();
}

/** `scripts`: those of this try that an earlier process has begun, in order. */
type TryContext = StageContext & { readonly scripts: readonly FoundScript[] };

async function runOnce(stage: ScriptStage, context: TryContext, signal: AbortSignal): Promise<void> {
  const [first, second] = context.scripts;
  let ran = await runScript(stage, stage.ops, { ...context, earlier: first }, signal);
  if (ran.exit.code === 0) return;
  const trouble = troubleOf(stage, ran);
  // What is made anew leaves what an earlier job has filled the disk with.
  if (stage.anew !== null && (trouble === "other" || trouble === "disk")) {
    const again = await runScript(stage, stage.anew, { ...context, earlier: second }, signal);
    if (again.exit.code === 0) return;
    // It says nothing where there was nothing to remove.
    if (again.tail !== "") ran = again;
  }
  throw failureOf(stage, ran);
}

function failureOf(stage: ScriptStage, ran: Ran): ScriptFailure | SystemFailure {
  const exitCode = ran.exit.code;
  const what = describeExit(ran.exit);
  if (stage.authored) return new ScriptFailure(what, { exitCode });
  const trouble = troubleOf(stage, ran);
  const advice = adviceOn(trouble);
  const message = `${stage.title} failed: ${what}${advice === "" ? "" : `; ${advice}`}`;
  if (trouble === "network" || trouble === "certificate") return new SystemFailure(message, { exitCode, retry: true });
  return trouble === "disk" ? new SystemFailure(message, { exitCode }) : new ScriptFailure(message, { exitCode });
}

function troubleOf(stage: ScriptStage, { tail }: Ran): GitTrouble {
  return stage.authored ? "other" : gitTroubleOf(tail);
}

type ScriptContext = StageContext & { readonly earlier: FoundScript | undefined };

async function runScript(
  stage: ScriptStage,
  ops: readonly Op[],
  context: ScriptContext,
  signal: AbortSignal,
): Promise<Ran> {
  const { environment, trace, earlier } = context;
  const { repeatable } = stage;
  using late = repeatable === undefined ? undefined : lateHandOver(signal, LAST_MOVE_MS);
  const proof = earlier?.proof ?? createProof();
  const status: Op = { op: "export", name: "CI_JOB_STATUS", value: context.status };
  const drafted = draft([status, ...ops], context.writers, environment.login);
  checkScriptSize(drafted.ops, stage.title);
  const { writer, login } = drafted;
  const options = { tmpDir: environment.workspace.tmpDir, xtrace: context.xtrace, proof };
  const text = writer.write(drafted.ops, options);
  const parts = writer.parts?.(drafted.ops, options);
  const command = writer.command({ login });
  if (earlier?.exit) {
    const { read, tail, ...exit } = earlier.exit;
    if (!read) throw unread(exit, drafted, stage, environment);
    return { exit, tail };
  }
  const output = await openOutput(context.kept, trace, proof, { earlier, tailBytes: stage.authored ? 0 : TAIL_BYTES });
  let exit: Exit;
  try {
    exit = await environment.run(
      {
        ...{ text, command, stage: stage.name, runIn: stage.runIn, login },
        ...(parts === undefined ? {} : { parts }),
        ...(repeatable === undefined ? {} : { repeatable }),
        ...(output.keeping === undefined ? {} : { keeping: output.keeping }),
      },
      output.filter.input,
      late?.signal ?? signal,
    );
  } catch (error) {
    // What it has printed goes on later, where it was.
    if (handsOver(signal)) await trace.letGo();
    throw error;
  } finally {
    await output.close();
  }
  // A trap's `exit 0` does not make a cancelled job succeed.
  signal.throwIfAborted();
  if (!output.filter.seen) throw unread(exit, drafted, stage, environment);
  return { exit, tail: output.filter.tail() };
}

/** Whatever the status: nothing of the script has run, so it is not the script's. */
function unread(exit: Exit, { writer, login }: Draft, stage: ScriptStage, { scriptsBy }: Environment): SystemFailure {
  if (scriptsBy !== undefined) {
    return new SystemFailure(
      `${scriptsBy} at stage ${stage.name} ended with ${describeExit(exit)}, and the script was not run: it has to be read to its end by ${writer.name}, and what it prints has to come back on stdout`,
      { exitCode: exit.code },
    );
  }
  const files = login ? "its profile (/etc/profile, ~/.bash_profile, ~/.profile, ~/.bashrc)" : "its start-up files";
  return new SystemFailure(
    `the shell (${writer.name}) ended with ${describeExit(exit)} before it had read the script; see whether ${files} or a wrapper exits or reads the standard input`,
    { exitCode: exit.code },
  );
}
