import "./no-debug-door.ts";
import "./quiet-runtime.ts";
import { isMainThread } from "node:worker_threads";
import { executors } from "../executors/index.ts";
import { startProgram } from "./agent/program.ts";
import "./transfer/zip/thread.ts";

// A thread that compresses is this same file: all that it does, it does where it is told to.
if (isMainThread) void startProgram(executors);
