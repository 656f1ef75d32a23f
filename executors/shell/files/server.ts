import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { describeError, ScriptFailure } from "../../../src/errors.ts";
import { createByteReader } from "../../../src/files/byte-reader.ts";
import type { Argv } from "../../../src/shell.ts";
import { never } from "../../../src/time.ts";
import type { KeptFiles } from "../../../src/workspace.ts";
import { createNameCount } from "../../common/files/found.ts";
import { findProgram } from "../launch/launch.ts";
import { keepingAt } from "./keep.ts";
import { listFiles } from "./list.ts";
import { packFiles } from "./pack.ts";
import { createNameReader, LENGTH_DIGITS, nameBytes, type Remark, requestSchema } from "./protocol.ts";
import { unpackFiles } from "./unpack.ts";
import { listUntracked } from "./untracked.ts";

interface FilesServerStreams {
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** The second process: one request about the files of a job, done with the rights that this process has. @returns its status */
export async function serveFiles({ stdin, stdout, stderr, env }: FilesServerStreams): Promise<number> {
  const remark = async (what: Remark): Promise<void> => await write(stderr, Buffer.from(`${JSON.stringify(what)}\n`));
  const answer = async (what: KeptFiles | null): Promise<void> =>
    await write(stdout, Buffer.from(JSON.stringify(what)));
  try {
    const input = createByteReader(stdin);
    const length = Number.parseInt((await input.take(LENGTH_DIGITS)).toString("latin1"), 16);
    const request = requestSchema.parse(JSON.parse((await input.take(length)).toString("utf8")));
    const { root } = request;
    switch (request.do) {
      case "list": {
        const environment = Object.fromEntries(
          Object.entries(env).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
        );
        const command = ([name, ...args]: Argv): Argv => [findProgram(name, env.PATH ?? "") ?? name, ...args];
        const untracked = (signal: AbortSignal) => listUntracked(root, { command, environment }, signal);
        const list = await listFiles({ root, untracked }, request.select, never);
        const { paths, ...rest } = list;
        for (const piece of nameBytes(paths)) await write(stdout, piece);
        await write(stdout, Buffer.from(`\0${JSON.stringify(rest)}`));
        break;
      }
      case "pack": {
        const reader = createNameReader(createNameCount());
        for await (const piece of pieces(input)) reader.push(piece);
        const { tar, warnings } = packFiles(root, reader.names, never);
        for await (const chunk of tar) await write(stdout, chunk);
        for (const warning of warnings) await remark({ warning });
        break;
      }
      case "unpack": {
        const report = await unpackFiles(request, pieces(input), request.limits, never);
        await write(stdout, Buffer.from(JSON.stringify(report)));
        break;
      }
      case "record":
        await answer(await keepingAt(request).record({ placed: request.names }, never));
        break;
      case "set aside":
        await answer(await keepingAt(request).setAside(request.kept, never));
        break;
      case "put back":
        await answer(await keepingAt(request).putBack(request.kept, never));
        break;
      case "drop":
        await keepingAt(request).drop(request.kept, never);
        await answer(null);
    }
    return 0;
  } catch (error) {
    const blame = error instanceof ScriptFailure ? "script" : "system";
    await remark({ error: { blame, message: describeError(error) } });
    return 1;
  }
}

async function* pieces(input: { some(most: number): Promise<Buffer> }): AsyncGenerator<Buffer> {
  for (let piece = await input.some(1024 * 1024); piece.length > 0; piece = await input.some(1024 * 1024)) yield piece;
}

async function write(output: Writable, bytes: Uint8Array): Promise<void> {
  if (!output.write(bytes)) await once(output, "drain");
}
