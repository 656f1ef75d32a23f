import type { ExecutorWords } from "../../src/executor/words.ts";

export const words: ExecutorWords = {
  name: "shell",
  title: "Shell",
  builtOn: [],
  worksOnThisMachine: true,
  flags: [],
  questions: [],
  foreignKeys: {},
};
