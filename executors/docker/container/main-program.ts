import { quoted } from "../../remote/index.ts";

/**
 * What the first process of a job's container runs: one small program, whose answer is read over the attached connection, and
 * then nothing, for as long as the container lives. It is handed over on stdin, as the Go runner did with scripts, so an
 * ENTRYPOINT works that ends in `exec "$@"`, and one that ends in a shell.
 */

export interface MainProgram {
  /** POSIX sh, run as `sh -c TEXT alloy-runner ARGS…`. */
  readonly script: string;
  readonly args: readonly string[];
}

/** What the program printed, and its status. */
export interface MainAnswer {
  readonly stdout: Buffer;
  readonly code: number;
}

/** One command of a script: `sh -c TEXT alloy-runner ARGS…`. */
export function commandOf({ script, args }: MainProgram): string {
  return quoted(["sh", "-c", script, "alloy-runner", ...args]);
}

/**
 * Waiting is done by a shell because it also buries processes whose parents are gone. Should its `sleep` be missing, or be
 * killed a thousand times, it waits for its stdin, which stays open.
 */
const IDLE = 'n=0; while [ "$n" -lt 1000 ]; do sleep 2000000 & wait "$!" || n=$((n + 1)); done 2>/dev/null; read -r n';

/** The text for the container's stdin, where a word may stand already. Braces: the shell has read all of it before any of it runs. */
export function mainText(program: MainProgram, marker: string): string {
  return `
{
printf '%s\\n' ${marker}-begin
${commandOf(program)} </dev/null
printf '\\n%s %s\\n' ${marker}-end "$?"
${IDLE}
}
`;
}

const LONGEST_ANSWER_BYTES = 1024 * 1024;

/** Finds the answer in what the container prints. */
interface AnswerReader {
  /** @returns what an ENTRYPOINT printed before the program began */
  write(chunk: Buffer): Buffer;
  readonly answer: MainAnswer | null;
}

export function createAnswerReader(marker: string): AnswerReader {
  const begin = Buffer.from(`${marker}-begin\n`);
  const end = Buffer.from(`\n${marker}-end `);
  let held: Buffer = Buffer.alloc(0);
  let begun = false;
  let answer: MainAnswer | null = null;
  return {
    write: (chunk) => {
      if (answer !== null) return Buffer.alloc(0);
      held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
      let before: Buffer = Buffer.alloc(0);
      if (!begun) {
        const at = held.indexOf(begin);
        // The marker may be cut: its length is held back.
        const take = at < 0 ? Math.max(0, held.length - begin.length) : at;
        before = held.subarray(0, take);
        held = held.subarray(at < 0 ? take : at + begin.length);
        begun = at >= 0;
      }
      if (begun) {
        const at = held.indexOf(end);
        const code = at < 0 ? null : /^(\d+)\n/.exec(held.toString("latin1", at + end.length, at + end.length + 8));
        if (code !== null) answer = { stdout: held.subarray(0, at), code: Number(code[1]) };
        else if (held.length > LONGEST_ANSWER_BYTES) answer = { stdout: Buffer.alloc(0), code: 1 };
      }
      return before;
    },
    get answer() {
      return answer;
    },
  };
}
