import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:os";
import { findProcessHandles } from "../../executors/shell/processes/pidfd.ts";

/** Prints how handles of processes work under this runtime, as a line of JSON. */
const open = await findProcessHandles();
const child = spawn("sleep", ["600"], { stdio: "ignore" });
await once(child, "spawn");
const exited = once(child, "exit");
const handle = open?.(child.pid ?? 0) ?? null;
const sent = handle?.signal(constants.signals.SIGTERM) ?? child.kill("SIGTERM");
const [, endedBy] = await exited;
const again = handle?.signal(constants.signals.SIGTERM) ?? null;
handle?.[Symbol.dispose]();
console.log(JSON.stringify({ handles: open !== null, sent, endedBy, again, nobody: open?.(2 ** 22) ?? null }));
