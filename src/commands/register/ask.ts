import { createInterface } from "node:readline";
import { CommandError } from "../../errors.ts";

interface Question {
  readonly message: string;
  /** Accepted with Enter. */
  readonly initial?: string;
  /** An empty answer is asked again. */
  readonly required?: boolean;
  /** Whether the answer is not echoed. */
  readonly secret?: boolean;
  /** Says what is wrong with an answer, or null. The question is asked again until nothing is. */
  readonly check?: (answer: string) => string | null;
}

/** Asks the person at the terminal, or reads answers line by line from a pipe. */
export interface Ask {
  text(question: Question): Promise<string>;
  confirm(message: string, initial: boolean): Promise<boolean>;
  choose(message: string, choices: readonly string[], initial: string | undefined): Promise<string>;
  close(): void;
}

/** Says what is wrong with `answer`, or null. */
function complaint(question: Question, answer: string): string | null {
  if (answer === "") return question.required === true ? "an answer is needed here" : null;
  return question.check?.(answer) ?? null;
}

/** Asks questions at a terminal. Ctrl-C and the end of input are a CommandError, not a stack trace. */
export async function askTerminal(): Promise<Ask> {
  const [{ default: confirm }, { default: input }, { default: password }, { default: select }] = await Promise.all([
    import("@inquirer/confirm"),
    import("@inquirer/input"),
    import("@inquirer/password"),
    import("@inquirer/select"),
  ]);
  const streams = { input: process.stdin, output: process.stderr };
  const guard = async <T>(answer: Promise<T>): Promise<T> => {
    try {
      return await answer;
    } catch (error) {
      if (error instanceof Error && error.name === "ExitPromptError") {
        throw new CommandError("stopped: nothing was registered or written", { exitCode: 1 });
      }
      throw error;
    }
  };
  return {
    async text(question) {
      const validate = (answer: string): string | true =>
        complaint(question, answer.trim() || (question.initial ?? "")) ?? true;
      const answer = question.secret
        ? await guard(
            password(
              {
                message: question.initial ? `${question.message} (Enter keeps the one given)` : question.message,
                mask: "*",
                validate,
              },
              streams,
            ),
          )
        : await guard(
            input(
              question.initial === undefined
                ? { message: question.message, validate }
                : { message: question.message, default: question.initial, validate },
              streams,
            ),
          );
      return answer.trim() || (question.initial ?? "");
    },
    confirm: async (message, initial) => await guard(confirm({ message, default: initial }, streams)),
    choose: async (message, choices, initial) =>
      await guard(
        select(
          {
            message,
            choices: choices.map((value) => ({ value })),
            ...(initial !== undefined && choices.includes(initial) ? { default: initial } : {}),
          },
          streams,
        ),
      ),
    close: () => {},
  };
}

/**
 * Reads answers from a pipe or a file, one a line, in the order of the questions, and shows each on stderr as it is
 * used.
 */
export function askLines(): Ask {
  const reader = createInterface({ input: process.stdin });
  const lines = reader[Symbol.asyncIterator]();
  const next = async (message: string): Promise<string> => {
    process.stderr.write(`${message} `);
    const line = await lines.next();
    if (line.done === true) {
      process.stderr.write("\n");
      throw new CommandError(
        `input ended at the question "${message}": answer all of them, or give the answers as options together with --non-interactive`,
      );
    }
    process.stderr.write("\n");
    return line.value.trim();
  };
  const text = async (question: Question): Promise<string> => {
    const shown = question.initial ? `[${question.secret ? "***" : question.initial}]` : "";
    for (;;) {
      const answer = (await next(`${question.message}${shown && ` ${shown}`}:`)) || (question.initial ?? "");
      const wrong = complaint(question, answer);
      if (wrong === null) return answer;
      process.stderr.write(`${wrong}\n`);
    }
  };
  return {
    text,
    async confirm(message, initial) {
      const check = (answer: string): string | null =>
        yesOrNo(answer) === undefined ? "please answer yes or no" : null;
      return yesOrNo(await text({ message: `${message} (yes/no)`, initial: initial ? "yes" : "no", check })) ?? initial;
    },
    choose: (message, choices, initial) =>
      text({
        message: `${message} (${choices.join(", ")})`,
        ...(initial === undefined ? {} : { initial }),
        required: true,
        check: (answer) => (choices.includes(answer) ? null : `one of: ${choices.join(", ")}`),
      }),
    close: () => reader.close(),
  };
}

function yesOrNo(answer: string): boolean | undefined {
  const word = answer.toLowerCase();
  if (["y", "yes", "true", "t", "1"].includes(word)) return true;
  if (["n", "no", "false", "f", "0"].includes(word)) return false;
  return undefined;
}
