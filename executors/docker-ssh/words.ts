import type { ExecutorWords } from "../../src/executor/words.ts";
import { words as docker, imageQuestion } from "../docker/words.ts";
import { loginQuestions, words as ssh } from "../ssh/words.ts";

export const words: ExecutorWords = {
  name: "docker-ssh",
  title: "Docker-SSH",
  builtOn: [docker.name, ssh.name],
  worksOnThisMachine: false,
  flags: [],
  questions: [imageQuestion, ...loginQuestions],
  foreignKeys: {},
};
