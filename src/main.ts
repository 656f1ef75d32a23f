import "./no-debug-door.ts";
import { executors } from "../executors/index.ts";
import { startProgram } from "./program.ts";

void startProgram(executors);
