import { SystemFailure } from "../../../src/errors.ts";
import { createByteReader } from "../../../src/files/byte-reader.ts";
import { tarHeader, tarPadding } from "../../../src/files/tar.ts";
import { type FileName, fileName, fileNameText } from "../../../src/workspace.ts";
import { pathOf } from "../../common/files/paths.ts";
import type { Packing } from "../place.ts";
import { lastLine, quoted } from "../run-to-end.ts";
import { targetsOf } from "./list.ts";
import { askRows, bytesOfLines, type Row } from "./rows.ts";

/**
 * Of each file a line `1`, exactly as many bytes as are asked for (one that has become shorter is filled up with zeros), and
 * its size by then; or a line `0` where it is no file any more.
 */
const PROGRAM = `
LC_ALL=C; export LC_ALL
file() {
  if [ -f "$2" ] && [ ! -L "$2" ] && [ -r "$2" ]; then
    echo 1
    [ "$1" -eq 0 ] || { cat "$2"; cat /dev/zero; } 2>/dev/null | head -c "$1"
    echo $(wc -c <"$2")
  else
    echo 0
  fi
}
eval "$(cat)"
`;

const PIECE_BYTES = 256 * 1024;

/** Files without the help of tar: one process there for all of them, a few more for each. */
export async function* packByCat(
  { commands, place, warnings, signal }: Packing,
  paths: readonly FileName[],
): AsyncGenerator<Buffer> {
  const top = pathOf(place.root);
  const rows = new Map<string, Row>();
  const asked = new Set<string>(paths);
  await askRows(commands, place, { look: paths }, (row) => asked.has(row.path) && rows.set(row.path, row), signal);
  const links = paths.filter((path) => rows.get(path)?.kind === "symlink");
  const targets = links.length === 0 ? new Map<string, string>() : await targetsOf(commands, place.root, links, signal);
  const files: Row[] = [];
  const empty = fileName("");
  const missing = (path: string, why: string): void => {
    warnings.add(`${fileNameText(path)} ${why}: it is left out.`);
  };
  for (const path of paths) {
    const row = rows.get(path);
    const target = targets.get(path);
    if (row === undefined) missing(path, "has vanished");
    else if (row.kind === "special") missing(path, "is a socket, a pipe or a device");
    else if (row.kind === "file") files.push(row);
    else if (row.kind === "symlink" && target === undefined) missing(path, "has vanished");
    else {
      const { kind, mode, mtimeMs } = row;
      const common = { name: path, kind, size: 0, mode: mode & 0o777, mtimeSeconds: mtimeMs / 1000 };
      yield tarHeader({ ...common, target: target === undefined ? empty : fileName(target) });
    }
  }
  if (files.length === 0) return;
  const lines = function* (): Generator<string> {
    for (const { path, size } of files) yield `file ${size} ${quoted([`${top}/${path}`])}\n`;
  };
  const command = { script: PROGRAM, args: [], stdin: bytesOfLines(lines()) };
  const { stdout, exit } = await commands.start(command, signal);
  exit.catch(() => {}); // its failure is thrown where the output is cut
  const input = createByteReader(stdout);
  const line = async (): Promise<string> => {
    let text = "";
    for (;;) {
      const byte = (await input.take(1)).toString("latin1");
      if (byte === "\n") return text;
      text += byte;
      if (byte === "" || text.length > 30) {
        throw new SystemFailure(`Cannot read the files: ${lastLine((await exit).stderr) || "the answer is cut"}`);
      }
    }
  };
  try {
    for (const { path, size, mode, mtimeMs } of files) {
      const name = fileName(path);
      if ((await line()) !== "1") {
        missing(path, "has vanished");
        continue;
      }
      yield tarHeader({ name, kind: "file", size, mode: mode & 0o777, mtimeSeconds: mtimeMs / 1000, target: empty });
      for (let left = size; left > 0; ) {
        const piece = await input.some(Math.min(left, PIECE_BYTES));
        if (piece.length === 0) throw new SystemFailure(`Cannot read ${fileNameText(path)}: the connection was cut`);
        left -= piece.length;
        yield piece;
      }
      yield Buffer.alloc(tarPadding(size));
      if (Number(await line()) < size) {
        warnings.add(`${fileNameText(path)} has become shorter while it was read: zeros stand for the rest.`);
      }
    }
  } finally {
    stdout.destroy();
  }
}
