/**
 * What the first process of a job's container runs: one small program, whose answer is read over the attached connection, and
 * then nothing, for as long as the container lives. It is handed over on stdin, as the Go runner did with scripts, so an
 * ENTRYPOINT works that ends in `exec "$@"`, and one that ends in a shell.
 */

export interface MainProgram {
  /** POSIX sh, run as `sh -c TEXT alloy-runner ARGS…`. */
  readonly script: string;
  readonly args: readonly string[];
  /** What SIGTERM makes it do, and end. */
  readonly last?: LastProgram;
}

export interface LastProgram {
  readonly script: string;
  readonly args: readonly string[];
  /** Of the container, when the script has succeeded. */
  readonly status: number;
}

/** What the program printed, and its status. */
export interface MainAnswer {
  readonly stdout: Buffer;
  readonly code: number;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function lastText({ script, args, status }: LastProgram): string {
  const program = ["sh", "-c", script, "alloy-runner", ...args].map(quote).join(" ");
  return `${program} </dev/null >/dev/null 2>&1 && exit ${status}; exit 1`;
}

/**
 * Waiting is done by a shell because it also buries processes whose parents are gone. Should its `sleep` be missing, or be
 * killed a thousand times, it waits for its stdin, which stays open.
 */
const IDLE = 'n=0; while [ "$n" -lt 1000 ]; do sleep 3600 & wait "$!" || n=$((n + 1)); done 2>/dev/null; read -r n';

/** The text for the container's stdin. Braces: the shell has read all of it before any of it runs. */
export function mainText({ script, args, last }: MainProgram, marker: string): string {
  const program = ["sh", "-c", script, "alloy-runner", ...args].map(quote).join(" ");
  return `{
printf '%s\\n' ${quote(`${marker}-begin`)}
${program} </dev/null
printf '\\n%s %s\\n' ${quote(`${marker}-end`)} "$?"
${last === undefined ? "" : `trap ${quote(lastText(last))} TERM\n`}${IDLE}
}
`;
}

const LONGEST_ANSWER_BYTES = 1024 * 1024;

/** Finds the answer in what the container prints. */
export interface AnswerReader {
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
