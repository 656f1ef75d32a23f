import { Writable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import { beforeAbort, drain, forward } from "../../common/processes/forward.ts";
import type { DriverProgram } from "../settings.ts";
import { type DriverHost, makeCallDir, nameCall, startCall } from "./call.ts";

const MOST_ANSWER_BYTES = 1024 * 1024;
/** From its end until all that it printed must have come. */
const LAST_WORDS_MS = 10_000;

/**
 * What `config_exec` prints; its stderr is for the trace.
 * @throws {SystemFailure | ScriptFailure} it did not end with 0, or prints too much
 */
export async function askConfig(
  host: DriverHost,
  program: DriverProgram,
  notes: Writable,
  signal: AbortSignal,
): Promise<string> {
  signal.throwIfAborted();
  const run = await startCall(host, { program, stderr: "apart" }, await makeCallDir(host));
  const { stdout, stderr } = run.running;
  const words = forward(stderr, notes);
  const chunks: Buffer[] = [];
  let bytes = 0;
  const answer = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      bytes += chunk.length;
      if (bytes <= MOST_ANSWER_BYTES) chunks.push(chunk);
      done();
    },
  });
  const printed = forward(stdout, answer);
  try {
    const exit = await run.ended(words, null, signal);
    // What it has left running may hold its output for good.
    await beforeAbort(drain(printed, LAST_WORDS_MS), signal);
    signal.throwIfAborted();
    await run.verdict(exit);
  } finally {
    await words.ended(200);
    words.close();
    printed.close();
    await run.close();
  }
  if (bytes > MOST_ANSWER_BYTES)
    throw new SystemFailure(
      `${nameCall({ program })} printed ${bytes} bytes; an answer has at most ${MOST_ANSWER_BYTES}`,
    );
  return Buffer.concat(chunks).toString("utf8");
}
