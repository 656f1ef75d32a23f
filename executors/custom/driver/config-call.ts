import type { Writable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import { forward } from "../../common/forward.ts";
import type { DriverProgram } from "../settings.ts";
import { type DriverHost, makeCallDir, nameCall, startCall } from "./call.ts";

const MOST_ANSWER_BYTES = 1024 * 1024;

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
  const printed = (async () => {
    for await (const chunk of stdout) {
      bytes += chunk.length;
      if (bytes <= MOST_ANSWER_BYTES) chunks.push(chunk);
    }
  })();
  printed.catch(() => {});
  try {
    await run.verdict(await run.ended(words, null, signal));
    await printed;
  } finally {
    await words.ended(200);
    words.close();
    stdout.destroy();
    await run.close();
  }
  if (bytes > MOST_ANSWER_BYTES)
    throw new SystemFailure(
      `${nameCall({ program })} printed ${bytes} bytes; an answer has at most ${MOST_ANSWER_BYTES}`,
    );
  return Buffer.concat(chunks).toString("utf8");
}
