import { emitKeypressEvents } from "node:readline";
import type { ReadStream, WriteStream } from "node:tty";
import ansiEscapes from "ansi-escapes";

/** A terminal that is all one program's, until it is disposed of. */
export interface Terminal extends Disposable {
  readonly columns: number;
  readonly rows: number;
  /** Replace what is shown. */
  draw(lines: readonly string[]): void;
}

export interface TerminalEvents {
  /** `up`, `f`, `return`, `ctrl+c`. */
  onKey(name: string): void;
  onResize(): void;
  /** Called when the terminal is gone. */
  onGone(): void;
}

/** @throws nothing; whatever happens, `dispose` gives the terminal back as it was */
export function openTerminal(input: ReadStream, output: WriteStream, events: TerminalEvents): Terminal {
  const onKey = (text: string | undefined, key: { name?: string; ctrl?: boolean; sequence?: string }): void => {
    const name = key.name ?? text ?? "";
    events.onKey(key.ctrl === true ? `ctrl+${name}` : name);
  };
  const onError = (): void => events.onGone();
  emitKeypressEvents(input);
  input.setRawMode(true);
  input.on("keypress", onKey);
  input.on("end", onError);
  input.on("error", onError);
  input.resume();
  output.on("resize", events.onResize);
  output.on("error", onError);
  output.write(ansiEscapes.enterAlternativeScreen + ansiEscapes.cursorHide + ansiEscapes.clearScreen);
  let before = "";
  return {
    get columns() {
      return output.columns || 80;
    },
    get rows() {
      return output.rows || 24;
    },
    draw(lines) {
      // There is no newline after the last line: it would scroll the screen up.
      const text = lines.map((line) => line + ansiEscapes.eraseEndLine).join("\r\n");
      // The same picture is not sent twice, nor a new one before the last has left: the line to the terminal may be
      // slow.
      if (text === before || output.writableLength > 0) return;
      before = text;
      output.write(ansiEscapes.cursorTo(0, 0) + text + ansiEscapes.eraseDown);
    },
    [Symbol.dispose]() {
      input.off("keypress", onKey);
      input.off("end", onError);
      input.setRawMode(false);
      input.pause();
      output.off("resize", events.onResize);
      output.write(ansiEscapes.cursorShow + ansiEscapes.exitAlternativeScreen);
    },
  };
}
