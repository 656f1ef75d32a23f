import { SystemFailure } from "../../src/errors.ts";
import type { RemoteCommand, RemoteCommands, RemoteExit } from "./commands.ts";

export interface RemoteResult extends RemoteExit {
  readonly stdout: Buffer;
}

/**
 * Run a program whose answer is short.
 * @throws {SystemFailure} it answers with more than `mostBytes`, or could not be run
 */
export async function runToEnd(
  commands: RemoteCommands,
  command: RemoteCommand,
  mostBytes: number,
  signal: AbortSignal,
): Promise<RemoteResult> {
  const { stdout, exit } = await commands.start(command, signal);
  exit.catch(() => {}); // its failure is thrown below, also when reading fails first
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of stdout) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > mostBytes) throw new SystemFailure(`The answer to a small question has more than ${mostBytes} bytes`);
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    stdout.destroy();
  }
  return { ...(await exit), stdout: Buffer.concat(chunks) };
}

/** Words for a shell: what it reads back from this is what was given, byte for byte. */
export function quoted(words: readonly string[]): string {
  return words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
}

/** The last line of what a program said of its failure. */
export function lastLine(stderr: string): string {
  return stderr.trim().split("\n").at(-1)?.slice(0, 500) ?? "";
}

/** Executors keep so much of the end of stderr. */
const KEPT_BYTES = 16 * 1024;

/**
 * What `find`, `stat` or `tar` complained about, one text for each complaint, also where a name in it has line feeds. Where the
 * beginning was not kept, the first one is not whole and is left out.
 */
export function complaints(stderr: string): string[] {
  const texts = stderr.split(/^(?=(?:find|stat|tar): )/m).map((text) => text.trim());
  const cut = Buffer.byteLength(stderr) >= KEPT_BYTES - 64;
  return (cut ? texts.slice(1) : texts).filter((text) => text !== "");
}
