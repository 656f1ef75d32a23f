import type { ExecutorWords } from "../../src/executor/words.ts";

/** The words of an executor of this name that has no flags and asks nothing. */
export function wordsOf(name: string, more: Partial<ExecutorWords> = {}): ExecutorWords {
  return {
    name,
    title: name,
    builtOn: [],
    worksOnThisMachine: false,
    flags: [],
    questions: [],
    foreignKeys: {},
    ...more,
  };
}
