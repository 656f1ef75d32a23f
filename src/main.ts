import "./no-debug-door.ts";
import "./quiet-runtime.ts";
import { executors } from "../executors/index.ts";
import { startProgram } from "./agent/program.ts";

void startProgram(executors);
