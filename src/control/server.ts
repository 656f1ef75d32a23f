import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { describeError } from "../errors.ts";
import type { Log } from "../log.ts";
import { createCrowd } from "../serving/crowd.ts";
import { type HttpReply, type HttpRequest, onRequest, sendHead, sendReply } from "../serving/http.ts";
import { drained, gone } from "../serving/stream.ts";
import { answer, refusal } from "./answers.ts";
import type { OpenDoor } from "./door.ts";
import { openDoorHere } from "./door-here.ts";
import { LONG_WORK_MS, PROTOCOL, PROTOCOL_HEADER, VERSION_HEADER } from "./protocol.ts";
import type { Steering } from "./steering.ts";
import { traceLines } from "./trace-lines.ts";

export interface ControlServer {
  close(): Promise<void>;
}

/** Connections at once; one more ends the oldest. */
const MOST_CONNECTIONS = 64;
/** Limit from the connection to the end of the request, and from there to the last byte of the answer. */
const REQUEST_LIMIT_MS = 5000;
const ANSWER_LIMIT_MS = 60_000;
/** How long a trace waits for its reader to take the next piece. */
const STALLED_MS = 600_000;

/**
 * Serves `steering` to the account of this process and to root or administrators. The number of connections is fixed, so that
 * silent, slow or many clients cost little.
 * @throws {ConfigError} its directory cannot be trusted, or its path is too long
 */
export async function openControl(
  stateDir: string,
  steering: Steering,
  log: Log,
  openDoor: OpenDoor = openDoorHere,
): Promise<ControlServer> {
  const door = await openDoor(stateDir, log);
  const crowd = createCrowd(MOST_CONNECTIONS);
  const headers = { [PROTOCOL_HEADER]: String(PROTOCOL), [VERSION_HEADER]: steering.version };

  const serve = async (socket: Socket, asked: HttpRequest | HttpReply): Promise<void> => {
    const found = await answer(asked, steering, log).catch((error: unknown) => refusal(500, describeError(error)));
    if (!("follows" in found)) {
      sendReply(socket, { ...found, headers: { ...found.headers, ...headers } }, false);
      return;
    }
    sendHead(socket, "application/x-ndjson", headers);
    for await (const { line } of traceLines(steering.board, found.follows, gone(socket))) {
      if (socket.destroyed) return;
      if (!socket.write(`${JSON.stringify(line)}\n`)) await drained(socket, STALLED_MS);
    }
    socket.end();
  };

  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    crowd.add(socket);
    let limit = setTimeout(() => socket.destroy(), REQUEST_LIMIT_MS);
    socket.on("close", () => {
      clearTimeout(limit);
      crowd.remove(socket);
    });
    const listen = (): void =>
      onRequest(socket, (asked) => {
        clearTimeout(limit);
        limit = setTimeout(() => socket.destroy(), "path" in asked ? limitOf(asked.path) : ANSWER_LIMIT_MS);
        serve(socket, asked).catch((error: unknown) => {
          log.debug("an answer on the control socket broke off", { problem: describeError(error) });
          socket.destroy();
        });
      });
    door.admits(socket).then(
      (may) => (may ? listen() : socket.destroy()),
      () => socket.destroy(),
    );
  });
  try {
    server.listen(door.path);
    await once(server, "listening");
    await door.opened();
  } catch (error) {
    server.close();
    await door.closed();
    throw error;
  }
  // From here on an error of the listener itself (out of descriptors while accepting) must not end the process.
  server.on("error", () => {});
  return {
    async close() {
      const closed = once(server, "close");
      server.close();
      crowd.disperse();
      await closed;
      await door.closed();
    },
  };
}

function limitOf(path: string): number {
  if (path.endsWith("/trace")) return 2 ** 31 - 1;
  return path.endsWith("/gc") ? LONG_WORK_MS : ANSWER_LIMIT_MS;
}
