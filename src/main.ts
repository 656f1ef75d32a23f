import "./no-debug-door.ts";
import "./quiet-runtime.ts";
import { versionText } from "./version.ts";

// The rest is imported by calls: what is imported by a statement is evaluated before the two above, once it is a file of its own.
async function main(): Promise<void> {
  if (process.argv.length === 3 && /^(-v|--?version)$/.test(process.argv[2] ?? "")) {
    process.stdout.write(`${versionText}\n`);
    return;
  }
  if (process.argv[2] === "run") {
    const { startSparing } = await import("./sparing-start.ts");
    startSparing();
  }
  const { executors } = await import("../executors/index.ts");
  const { startProgram } = await import("./agent/program.ts");
  await startProgram(executors);
}

void main();
