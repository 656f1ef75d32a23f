import type { ExecutorWords } from "../../src/executor/words.ts";
import { words as docker, imageQuestion } from "../docker/words.ts";
import { autoscalerQuestions, words as instance } from "../instance/words.ts";

export const words: ExecutorWords = {
  name: "docker-autoscaler",
  title: "Docker Autoscaler",
  builtOn: [docker.name, instance.name],
  worksOnThisMachine: false,
  flags: [],
  questions: [imageQuestion, ...autoscalerQuestions],
  foreignKeys: {},
};
