import { createConnection, type Socket } from "node:net";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import { SSH_WORDS, type SshHost } from "../settings.ts";

type Target = Pick<SshHost, "host" | "port" | "words">;

/** A TCP connection. @throws {SystemFailure} that may be repeated */
export async function dial({ host, port, words = SSH_WORDS }: Target, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted();
  const socket = createConnection({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 });
  try {
    await new Promise<void>((resolve, reject) => {
      const onAbort = (): void => reject(signal.reason);
      signal.addEventListener("abort", onAbort, { once: true });
      socket.once("connect", () => {
        signal.removeEventListener("abort", onAbort);
        resolve();
      });
      socket.once("error", (cause) => {
        signal.removeEventListener("abort", onAbort);
        const code = "code" in cause ? cause.code : undefined;
        const check = `. Check ${words.address}`;
        const hint = code === "ENOTFOUND" ? check : code === "ECONNREFUSED" ? `${check}, and that sshd runs there` : "";
        reject(
          new SystemFailure(`Cannot reach ${host}, port ${port}: ${describeError(cause)}${hint}`, {
            retry: true,
            reason: "runner_external_dependency_failure",
          }),
        );
      });
    });
    return socket;
  } catch (error) {
    socket.on("error", () => {});
    socket.destroy();
    throw error;
  }
}
