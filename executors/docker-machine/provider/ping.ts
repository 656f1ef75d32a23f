import { readFile } from "node:fs/promises";
import { request } from "node:https";
import { join } from "node:path";
import { SystemFailure } from "../../../src/errors.ts";
import { deadline, unlessAborted } from "../../../src/time.ts";
import type { MachineLogin } from "./store.ts";

/** How the engine of a machine is reached. */
export interface MachineConnection {
  /** `tcp://192.0.2.1:2376` */
  readonly host: string;
  /** Folder with `ca.pem`, `cert.pem`, `key.pem`. */
  readonly tlsCertPath: string;
  /** How docker-machine logs in there, if it has a key. */
  readonly login: MachineLogin | null;
}

/**
 * Asks a machine's engine whether it is there, with the certificates that jobs use. `docker-machine config` does not prove it: its
 * check ends before the engine refuses the client.
 * @throws {SystemFailure} there is no engine that lets the runner in
 */
export async function pingEngine(
  { host, tlsCertPath }: Pick<MachineConnection, "host" | "tlsCertPath">,
  limitMs: number,
  signal: AbortSignal,
): Promise<void> {
  using limit = deadline(signal, limitMs, new Error(`no answer within ${limitMs / 1000} s`));
  try {
    const { hostname, port } = new URL(host.replace(/^tcp:/, "https:"));
    const [ca, cert, key] = await Promise.all(
      ["ca.pem", "cert.pem", "key.pem"].map((name) => readFile(join(tlsCertPath, name))),
    );
    const answered = Promise.withResolvers<number>();
    const call = request(
      {
        host: hostname.replace(/^\[(.*)\]$/, "$1"),
        port: port || 2376,
        path: "/_ping",
        agent: false,
        signal: limit.signal,
        ca,
        cert,
        key,
      },
      (response) => {
        response.resume();
        answered.resolve(response.statusCode ?? 0);
      },
    );
    call.on("error", answered.reject);
    call.end();
    const status = await unlessAborted(answered.promise, limit.signal);
    call.destroy();
    if (status !== 200) throw new Error(`it answers with status ${status}`);
  } catch (error) {
    signal.throwIfAborted();
    const cause = limit.signal.aborted ? limit.signal.reason : error;
    throw new SystemFailure(`The engine at ${host} does not answer`, { cause, retry: true });
  }
}
