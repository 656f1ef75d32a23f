import { Readable } from "node:stream";
import { askRows, LONGEST_TOKEN, MOST_ROWS } from "../../executors/remote/files/rows.ts";
import { MOST_ANSWER_BYTES as MOST_SMALL_BYTES } from "../../executors/remote/files/unpack.ts";
import { runToEnd } from "../../executors/remote/run-to-end.ts";
import { probeTools } from "../../executors/remote/tools.ts";
import { filesThroughProcess, MOST_ANSWER_BYTES } from "../../executors/shell/files/process.ts";
import { never } from "../../src/time.ts";
import { localCommands } from "../executors/remote/local.ts";
import { bytes, type Case, count, refusal } from "./support.ts";

/** A host on which every program prints this. */
function saying(pieces: Iterable<Buffer>) {
  return {
    start: async () => ({
      stdout: Readable.from(pieces, { objectMode: false }),
      exit: Promise.resolve({ code: 0, stderr: "" }),
    }),
  };
}

function* times(total: number, block: Buffer): Generator<Buffer> {
  const piece = Buffer.concat(Array.from({ length: 1000 }, () => block));
  for (let left = total; left > 0; left -= 1000) yield left < 1000 ? piece.subarray(0, left * block.length) : piece;
}

async function listing(pieces: Iterable<Buffer>): Promise<string> {
  const env = { PATH: process.env.PATH ?? "" };
  const tools = { ...(await probeTools(localCommands(["sh"], env), never)), stat: "find -printf" } as const;
  return await refusal(() => askRows(saying(pieces), { root: "/builds", tools }, { deep: [""] }, () => {}, never));
}

export const cases: Readonly<Record<string, Case>> = {
  "host.rows": {
    bound: count(MOST_ROWS),
    beyond: () => listing(times(MOST_ROWS + 1, Buffer.from("f 644 0 0\0/elsewhere\0"))),
  },
  "host.name": { bound: bytes(LONGEST_TOKEN), beyond: () => listing([Buffer.alloc(LONGEST_TOKEN + 1, "x")]) },
  "host.answer": {
    bound: bytes(MOST_SMALL_BYTES),
    beyond: () =>
      refusal(() =>
        runToEnd(saying([Buffer.alloc(MOST_SMALL_BYTES + 1)]), { script: "", args: [] }, MOST_SMALL_BYTES, never),
      ),
  },
  "host.files": {
    bound: bytes(MOST_ANSWER_BYTES),
    beyond: () =>
      refusal(() => {
        const files = filesThroughProcess(
          { root: "/builds", tmpDir: "/tmp/none" },
          {
            mark: "MARK=x",
            keepsFiles: false,
            ownProgram: ["sh", "-c", `printf '\\0'; head -c ${MOST_ANSWER_BYTES + 1} /dev/zero`],
            launch: {
              account: null,
              uid: 0,
              environment: { PATH: process.env.PATH ?? "" },
              command: (argv) => argv,
              check: async () => {},
            },
          },
        );
        return files.list({ globs: ["x"], exclude: [], untracked: false }, never);
      }),
  },
};
