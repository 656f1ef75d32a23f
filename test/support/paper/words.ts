import { wordsOf } from "../words.ts";

export const words = wordsOf("paper", {
  title: "Paper",
  worksOnThisMachine: true,
  flags: [{ flag: "paper-colour", env: "PAPER_COLOUR", key: "paper.colour", kind: "text", help: "of the sheet" }],
  questions: [{ flag: "paper-colour", message: "Colour of the paper", required: true }],
});
