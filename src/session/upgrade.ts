import { IncomingMessage } from "node:http";
import type { TLSSocket } from "node:tls";
import { type WebSocket, WebSocketServer } from "ws";
import type { Terminal } from "../executor/environment.ts";
import type { HttpRequest } from "../serving/http.ts";
import { PROTOCOLS, type Protocol, relay } from "./relay.ts";

/** More than anybody types or pastes at once. */
const MOST_MESSAGE_BYTES = 1024 * 1024;
const HANDSHAKE = ["upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol"];

const sockets = new WebSocketServer({
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  maxPayload: MOST_MESSAGE_BYTES,
  skipUTF8Validation: true,
  handleProtocols: (offered) => PROTOCOLS.find((protocol) => offered.has(protocol)) ?? false,
});

/** Makes a WebSocket of the connection and relays the terminal over it. Resolves at its end; never rejects. */
export async function upgrade(
  socket: TLSSocket,
  request: HttpRequest,
  terminal: Terminal,
  over: AbortSignal,
): Promise<void> {
  const asked = new IncomingMessage(socket);
  asked.method = request.method;
  asked.url = request.path;
  asked.headers = Object.fromEntries(HANDSHAKE.map((name) => [name, request.header(name)]));
  const opening = Promise.withResolvers<WebSocket | null>();
  // A handshake that is none is answered with 400, and its connection ends.
  socket.once("close", () => opening.resolve(null));
  sockets.handleUpgrade(asked, socket, Buffer.alloc(0), (opened) => opening.resolve(opened));
  const opened = await opening.promise;
  if (opened === null) terminal.output.destroy();
  else await relay(opened, terminal, chosen(opened), over);
}

function chosen({ protocol }: WebSocket): Protocol {
  return PROTOCOLS.find((one) => one === protocol) ?? "terminal.gitlab.com";
}
