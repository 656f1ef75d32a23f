import { ScriptFailure } from "../../../errors.ts";
import type { Op } from "../../../shell.ts";

/** What one script may hold: what was written, and the variables and files that it exports. */
export const MOST_SCRIPT_BYTES = 16 * 1024 * 1024;

interface Size {
  bytes: number;
  largest: { readonly what: string; readonly bytes: number };
}

/**
 * A script is made, and held in memory, as a whole.
 * @param title for the sentence: `the script`
 * @throws {ScriptFailure} it would be too large; names what is largest in it
 */
export function checkScriptSize(ops: readonly Op[], title: string): void {
  const size: Size = { bytes: 0, largest: { what: "", bytes: 0 } };
  measure(ops, size);
  if (size.bytes <= MOST_SCRIPT_BYTES) return;
  const { what, bytes } = size.largest;
  throw new ScriptFailure(
    `${title} cannot be run: with its variables it has more than ${MOST_SCRIPT_BYTES} bytes; the largest part is ${what} with ${bytes} bytes`,
  );
}

function measure(ops: readonly Op[], size: Size): void {
  for (const op of ops) {
    switch (op.op) {
      case "export":
        add(size, [op.value, ...(op.around ?? [])], `the variable ${shown(op.name)}`);
        break;
      case "exportFile":
        add(size, [op.content], `the file variable ${shown(op.name)}`);
        break;
      case "write":
        add(size, [op.content], `the file ${shown(op.path)}`);
        break;
      case "printSection":
      case "source":
        add(size, [op.text], "a part of the script");
        break;
      case "run":
        add(size, op.argv, `a call of ${shown(op.argv[0])}`);
        break;
      case "when":
        measure(op.then, size);
        measure(op.else ?? [], size);
        break;
      case "repeat":
        measure(op.body, size);
        break;
    }
  }
}

function add(size: Size, texts: readonly string[], what: string): void {
  const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  size.bytes += bytes;
  if (bytes > size.largest.bytes) size.largest = { what, bytes };
}

function shown(name: string): string {
  return JSON.stringify(name.slice(0, 100));
}
