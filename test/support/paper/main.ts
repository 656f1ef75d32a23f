import { createCatalog, lines } from "../../../executors/index.ts";
import { startProgram } from "../../../src/agent/program.ts";
import { words } from "./words.ts";

/** The program with one more executor, which is a folder and this line. */
void startProgram(createCatalog([...lines, [words, () => import("./executor.ts")]]));
