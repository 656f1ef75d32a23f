import { createConnection, type Socket } from "node:net";
import { describeError, SystemFailure } from "../../../src/errors.ts";

const CHECK_NAME = ". Check host in [runners.ssh]";
const CHECK_PORT = ". Check host and port in [runners.ssh], and that sshd runs there";

/** A TCP connection. @throws {SystemFailure} that may be repeated */
export async function dial(host: string, port: number, signal: AbortSignal): Promise<Socket> {
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
        const hint = code === "ENOTFOUND" ? CHECK_NAME : code === "ECONNREFUSED" ? CHECK_PORT : "";
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
