import { once } from "node:events";
import { WebSocket } from "ws";
import type { SessionWords } from "../../src/coordinator/contract.ts";

type Frames = "terminal.gitlab.com" | "base64.terminal.gitlab.com";

/** Of what was shown, the end is kept. */
const MOST_CHARACTERS = 64 * 1024;

/** A person at a terminal, as GitLab's Workhorse connects one: over TLS, trusting the certificate of the session and no other. */
export interface TerminalClient {
  readonly socket: WebSocket;
  readonly protocol: string;
  /** The end of what was shown so far. */
  readonly text: string;
  type(keys: string): void;
  /** Resolves with the match once the screen has one after what was matched before. */
  shown(pattern: RegExp): Promise<RegExpExecArray>;
  /** Resolves with the close code. */
  readonly closed: Promise<number>;
  close(): Promise<void>;
}

/** @returns the terminal, or the status with which it was refused */
export async function connectTerminal(
  { url, certificate, authorization }: SessionWords,
  { protocols = ["terminal.gitlab.com"], path = "/exec" }: { protocols?: readonly Frames[]; path?: string } = {},
): Promise<TerminalClient | number> {
  const socket = new WebSocket(`${url.replace(/^https/, "wss")}${path}`, [...protocols], {
    ca: certificate,
    headers: { Authorization: authorization },
    perMessageDeflate: false,
  });
  const closed = new Promise<number>((resolve) => socket.once("close", resolve));
  const outcome = await new Promise<number>((resolve, reject) => {
    socket.once("open", () => resolve(0));
    socket.once("unexpected-response", (asked, answer) => {
      resolve(answer.statusCode ?? -1);
      asked.destroy();
    });
    socket.once("error", reject);
  });
  if (outcome !== 0) return outcome;
  socket.on("error", () => {});
  const isText = socket.protocol === "base64.terminal.gitlab.com";
  let text = "";
  let from = 0;
  socket.on("message", (data: Buffer, isBinary: boolean) => {
    if (isBinary === isText) throw new Error(`a frame of the wrong kind for ${socket.protocol}`);
    text += isText ? Buffer.from(data.toString(), "base64").toString() : data.toString();
    const excess = text.length - MOST_CHARACTERS;
    if (excess > 0) {
      text = text.slice(excess);
      from = Math.max(0, from - excess);
    }
    socket.emit("grown");
  });
  return {
    socket,
    protocol: socket.protocol,
    get text() {
      return text;
    },
    type: (keys) => socket.send(isText ? Buffer.from(keys).toString("base64") : Buffer.from(keys), { binary: !isText }),
    async shown(pattern) {
      for (;;) {
        const match = pattern.exec(text.slice(from));
        if (match !== null) {
          from += match.index + match[0].length;
          return match;
        }
        await Promise.race([
          once(socket, "grown"),
          closed.then((code) => {
            if (!pattern.test(text.slice(from))) throw new Error(`closed with ${code}, without ${pattern}:\n${text}`);
          }),
        ]);
      }
    },
    closed,
    async close() {
      socket.close();
      await closed;
    },
  };
}

/** The same where it must be let in. */
export async function atTerminal(...words: Parameters<typeof connectTerminal>): Promise<TerminalClient> {
  const client = await connectTerminal(...words);
  if (typeof client === "number") throw new Error(`refused with ${client}`);
  return client;
}
