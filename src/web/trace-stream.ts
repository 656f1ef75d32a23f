import type { Socket } from "node:net";
import type { Board } from "../board/contract.ts";
import { type Followed, traceLines } from "../control/trace-lines.ts";
import { drained, gone } from "../serving/stream.ts";

/** How long a stream waits for its reader. */
const STALLED_MS = 120_000;
/** A quiet trace is told to be alive, so that nothing on the way gives it up. */
const ALIVE_MS = 15_000;

/** Writes a trace as events until it has ended. The id of each is the byte where whoever lost the connection goes on. */
export async function streamTrace(socket: Socket, board: Board, followed: Followed): Promise<void> {
  const alive = setInterval(() => socket.write(": still here\n\n"), ALIVE_MS);
  try {
    for await (const { line, next } of traceLines(board, followed, gone(socket))) {
      if (socket.destroyed) return;
      if (!socket.write(`id: ${next}\ndata: ${JSON.stringify(line)}\n\n`)) await drained(socket, STALLED_MS);
    }
  } finally {
    clearInterval(alive);
  }
  socket.end();
}
