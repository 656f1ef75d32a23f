import "./no-debug-door.ts";
import "./quiet-runtime.ts";
import { versionText } from "./version.ts";

// The rest is imported by calls: what is imported by a statement is evaluated before the two above, once it is a file of its own.
async function main(): Promise<void> {
  if (process.argv.length === 3 && /^(-v|--?version)$/.test(process.argv[2] ?? "")) {
    process.stdout.write(`${versionText}\n`);
    return;
  }
  const command = process.argv[2];
  if (command === "run" || command === "exec") {
    const { startSparing } = await import("./sparing-start.ts");
    startSparing(command === "run" ? "lasting" : "short");
  }
  const { executors } = await import("../executors/index.ts");
  const { startProgram } = await import("./agent/program.ts");
  await startProgram(executors);
}

void main();
