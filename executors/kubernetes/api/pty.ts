import { Writable } from "node:stream";
import type { Argv } from "../../../src/shell.ts";
import type { RemotePty } from "../../remote/index.ts";
import type { PodContainer } from "./commands.ts";
import { openExec } from "./exec.ts";

/** A program on a pseudo-terminal in a container of a pod. */
export async function openPty(
  { api, namespace, pod, container, env = [] }: PodContainer,
  argv: Argv,
  signal: AbortSignal,
): Promise<RemotePty> {
  const whole = env.length === 0 ? argv : ["env", ...env, ...argv];
  const channel = await openExec(api, { namespace, pod, container, argv: whole, stdin: true, tty: true }, signal);
  const input = new Writable({
    highWaterMark: 64 * 1024,
    write: (chunk: Buffer, _encoding, done) => void channel.write(chunk).then(() => done(), done),
  });
  // What is typed after the end reaches nobody.
  void channel.ended.then(() => input.destroy());
  return { input, output: channel.stdout, hangUp: channel.close };
}
