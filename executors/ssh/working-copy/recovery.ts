import { SystemFailure } from "../../../src/errors.ts";
import type { Recovered } from "../../../src/executor/executor.ts";
import { endTree, jobMark, type RemoteCommands, runToEnd } from "../../remote/index.ts";
import { FORGET_PROGRAM } from "./claim-program.ts";

interface DeadJob {
  readonly jobKey: string;
  readonly buildsDir: string;
  readonly runnerId: string;
  readonly killGraceMs: number;
  /** Its runner kept nothing there: working copies go, too. */
  readonly ephemeral: boolean;
  /** For messages. */
  readonly host: string;
}

const MOST_ANSWER_BYTES = 64 * 1024;

/**
 * End what is left of a job on its host and remove its temporary files and its claim.
 * @throws {SystemFailure} it could not be done, or nobody can tell
 */
export async function cleanUpAfter(commands: RemoteCommands, job: DeadJob, signal: AbortSignal): Promise<Recovered> {
  const { jobKey, buildsDir, runnerId, killGraceMs, ephemeral, host } = job;
  const tree = { mark: jobMark(jobKey), root: null, graceMs: killGraceMs, limitMs: killGraceMs };
  const { ended, survived } = await endTree(commands, tree, signal);
  const done: string[] = [];
  if (ended.length > 0) done.push(`ended ${ended.length === 1 ? "1 process" : `${ended.length} processes`}`);
  const left = survived.length > 0 ? [`could not end ${survived.length} of its processes`] : [];

  const args = [Buffer.from(buildsDir).toString("latin1"), runnerId, jobKey, ephemeral ? "ephemeral" : ""];
  const forget = { script: FORGET_PROGRAM, args };
  const { code, stdout, stderr } = await runToEnd(commands, forget, MOST_ANSWER_BYTES, signal);
  if (code !== 0) {
    throw new SystemFailure(`Cannot remove the job's temporary files on ${host}: ${stderr.trim().slice(0, 500)}`);
  }
  if (stdout.includes("removed")) done.push("removed its temporary files");
  return { done, left };
}
