import { createCatalog, lines } from "../../../executors/index.ts";
import { startProgram } from "../../../src/program.ts";
import { words } from "./words.ts";

/** The program with one more executor: a folder and a line. */
void startProgram(createCatalog([...lines, [words, () => import("./executor.ts")]]));
