import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { connect } from "node:tls";

/** What happens to a request: its connection is as good as any other until the moment that `after` says. */
export interface Fault {
  /** Which ones, by their first line. */
  readonly request: RegExp;
  /** The direction that is counted: from the runner, or to it. */
  readonly way: Way;
  /** So many bytes have passed that way, heads not counted; or this text has come, and is not passed on. */
  readonly after: number | RegExp;
  /** The connection breaks; or whoever receives there is told that nothing more comes, as if that were all. */
  readonly how: "break" | "end";
  /** How often it happens. */
  readonly times: number;
}

type Way = "up" | "down";

/** A way to an API server that is as bad as a test wants it: plain HTTP for the runner, so that no cut shows as a broken seal. */
export interface RoughLine {
  /** `http://127.0.0.1:41237` */
  readonly address: string;
  /** First lines of all requests, and of all answers. */
  readonly asked: readonly string[];
  readonly answers: readonly string[];
  /** How often a fault has happened. */
  readonly hits: number;
  /** From the next request on; `null`: no more faults. */
  spoil(fault: Fault | null): void;
  /** Nothing passes any more on the connections that there are, which stay open. New ones are good. */
  stall(): void;
  close(): Promise<void>;
}

const REQUEST = /^(?:GET|POST|PUT|PATCH|DELETE) \S+ HTTP\/1\.1\r\n/;

/** @param server `https://10.200.0.2:6443`, whose certificate is not looked at */
export async function openRoughLine(server: string): Promise<RoughLine> {
  const { hostname, port } = new URL(server);
  const sockets = new Set<Socket>();
  const asked: string[] = [];
  const answers: string[] = [];
  let fault: Fault | null = null;
  let left = 0;
  let hits = 0;

  const listener = createServer({ noDelay: true, allowHalfOpen: true }, (near) => {
    const far = connect({ host: hostname, port: Number(port), rejectUnauthorized: false });
    let own: Fault | null = null;
    const passed = { up: 0, down: 0 };
    let came = "";
    let answered = false;

    /** The part of a piece that may pass; with less than all of it the fault has happened. */
    const judge = (way: Way, chunk: Buffer): Buffer => {
      const text = chunk.toString("latin1");
      const asks = way === "up" && REQUEST.test(text);
      const [firstLine = ""] = text.split("\r\n", 1);
      if (asks) {
        asked.push(firstLine);
        own = fault?.request.test(firstLine) === true ? fault : null;
        [passed.up, passed.down, came, answered] = [0, 0, "", false];
      }
      const isHead = asks || (way === "down" && !answered);
      if (way === "down" && !answered) answers.push(firstLine);
      if (way === "down") answered = true;
      const end = isHead ? text.indexOf("\r\n\r\n") + 4 : 0;
      passed[way] += chunk.length - end;
      if (own?.way !== way || left === 0) return chunk;
      if (typeof own.after === "number") {
        return passed[way] < own.after ? chunk : chunk.subarray(0, chunk.length - (passed[way] - own.after));
      }
      came = (came + text.slice(end)).slice(-64 * 1024);
      return own.after.test(came) ? chunk.subarray(0, 0) : chunk;
    };
    for (const [way, from, to] of [
      ["up", near, far],
      ["down", far, near],
    ] as const) {
      sockets.add(from);
      from.on("error", () => {});
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
      from.on("end", () => to.end());
      from.on("data", (chunk: Buffer) => {
        const may = judge(way, chunk);
        if (may.length === chunk.length) {
          if (to.write(chunk)) return;
          from.pause();
          to.once("drain", () => from.resume());
          return;
        }
        hits++;
        left--;
        // What follows is lost.
        from.removeAllListeners("data").resume();
        if (own?.how === "end") to.end(may);
        else to.write(may, () => from.destroy());
      });
    }
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const address = listener.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    address: `http://127.0.0.1:${address.port}`,
    asked,
    answers,
    get hits() {
      return hits;
    },
    spoil: (next) => {
      fault = next;
      left = next?.times ?? 0;
    },
    stall: () => {
      for (const socket of sockets) socket.removeAllListeners("data").removeAllListeners("end").resume();
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => listener.close(resolve));
    },
  };
}
