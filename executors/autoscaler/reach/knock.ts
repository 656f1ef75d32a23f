import { createConnection } from "node:net";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import { deadline, unlessAborted } from "../../../src/time.ts";
import type { Address } from "../providers/instance.ts";

const KNOCK_MS = 10_000;

/**
 * Whether an sshd answers: it says its name before it wants to know anybody's. One that hangs up has too many guests, and is there.
 * @throws {SystemFailure} nobody answers
 */
export async function knock({ host, port }: Address, signal: AbortSignal): Promise<void> {
  using limit = deadline(signal, KNOCK_MS, new Error(`no answer within ${KNOCK_MS / 1000} s`));
  const socket = createConnection({ host, port: port ?? 22 });
  const answered = new Promise<void>((resolve, reject) => {
    socket.once("data", () => resolve());
    socket.once("end", () => resolve());
    socket.on("error", reject);
  });
  try {
    await unlessAborted(answered, limit.signal);
  } catch (error) {
    signal.throwIfAborted();
    throw new SystemFailure(`No sshd answers at ${host}, port ${port}: ${describeError(error)}`, {
      cause: error,
      retry: true,
    });
  } finally {
    socket.destroy();
  }
}
