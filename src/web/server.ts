import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import type { WebConfig } from "../config/config.ts";
import { refusal } from "../control/answers.ts";
import type { Steering } from "../control/steering.ts";
import { ConfigError, describeError } from "../errors.ts";
import type { Log } from "../log.ts";
import { createCrowd } from "../serving/crowd.ts";
import { type HttpReply, type HttpRequest, onRequest, sendHead, sendReply } from "../serving/http.ts";
import { answerWeb } from "./answers.ts";
import { createFeed } from "./feed.ts";
import { SAFETY } from "./guard.ts";
import { pageFiles } from "./page-files.ts";
import { createSamples } from "./samples.ts";
import { createSessions } from "./sessions.ts";
import { streamTrace } from "./trace-stream.ts";

export interface WebServer {
  readonly url: string;
  close(): Promise<void>;
}

export interface WebDeps {
  readonly steering: Steering;
  freeBytes(): number | undefined;
  readonly log: Log;
}

/** Connections at once; one more ends the oldest. */
const MOST_CONNECTIONS = 128;
const REQUEST_LIMIT_MS = 5000;
const ANSWER_LIMIT_MS = 60_000;

/**
 * Serves the live page. Nothing is done while nobody looks, but for a sample each ten seconds.
 * @throws {ConfigError} the address cannot be had
 */
export async function openWeb({ host, port, password }: WebConfig, deps: WebDeps): Promise<WebServer> {
  const { steering, log } = deps;
  const { board } = steering;
  const sessions = password === null ? null : createSessions(password);
  const samples = createSamples({
    board,
    concurrent: () => steering.about().concurrent,
    freeBytes: () => deps.freeBytes(),
  });
  const feed = createFeed(steering, samples);
  const crowd = createCrowd(MOST_CONNECTIONS);
  const files = await pageFiles();

  const serve = async (socket: Socket, asked: HttpRequest | HttpReply): Promise<void> => {
    const guard = { host, port, sessions };
    const found = await answerWeb(asked, { guard, files, steering, log }).catch((error: unknown) =>
      refusal(500, describeError(error)),
    );
    if (!("follows" in found)) {
      sendReply(socket, { ...found, headers: { ...found.headers, ...SAFETY } }, false);
      return;
    }
    found.over?.addEventListener("abort", () => socket.destroy(), { once: true });
    sendHead(socket, "text/event-stream; charset=utf-8", { ...SAFETY, "X-Accel-Buffering": "no" });
    if (found.follows === "board") await feed.join(socket);
    else await streamTrace(socket, board, found.follows);
  };

  const server = createServer((socket) => {
    socket.setNoDelay(true);
    socket.on("error", () => socket.destroy());
    crowd.add(socket);
    let limit = setTimeout(() => socket.destroy(), REQUEST_LIMIT_MS);
    socket.on("close", () => {
      clearTimeout(limit);
      crowd.remove(socket);
    });
    onRequest(socket, (asked) => {
      clearTimeout(limit);
      const streams = "path" in asked && /^\/api\/(?:events|jobs\/[^/]+\/trace)$/.test(asked.path);
      if (!streams) limit = setTimeout(() => socket.destroy(), ANSWER_LIMIT_MS);
      serve(socket, asked).catch((error: unknown) => {
        log.debug("an answer to the page broke off", { problem: describeError(error) });
        socket.destroy();
      });
    });
  });
  try {
    server.listen({ port, host });
    await once(server, "listening");
  } catch (error) {
    samples[Symbol.dispose]();
    throw new ConfigError(
      `Cannot serve the page on ${host}:${port}: ${describeError(error)}. Set another listen_address in [web]`,
      { cause: error },
    );
  }
  // From here on an error of the listener itself (out of descriptors while accepting) must not end the process.
  server.on("error", () => {});
  const address = server.address();
  const bound = typeof address === "object" && address !== null ? address.port : port;
  return {
    url: `http://${host.includes(":") ? `[${host}]` : host}:${bound}/`,
    async close() {
      samples[Symbol.dispose]();
      sessions?.clear();
      const closed = once(server, "close");
      server.close();
      crowd.disperse();
      await closed;
    },
  };
}
