import type { ExecutorWords } from "../../src/executor/words.ts";
import { words as dockerMachine } from "../docker-machine/words.ts";
import { words as dockerSsh } from "../docker-ssh/words.ts";
import { loginQuestions } from "../ssh/words.ts";

export const words: ExecutorWords = {
  name: "docker-ssh+machine",
  title: "Docker-SSH on Docker Machine",
  builtOn: [dockerMachine.name, dockerSsh.name],
  worksOnThisMachine: false,
  flags: [],
  questions: [...dockerMachine.questions, ...loginQuestions],
  foreignKeys: {},
};
