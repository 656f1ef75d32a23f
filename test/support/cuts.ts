import { readFileSync } from "node:fs";
import type { Environment } from "../../src/executor/environment.ts";
import { runOps, Sink, source } from "./executor-kit.ts";
import { descendants } from "./sshd.ts";

/** Ends what serves connections to an sshd at or below this process, as a broken line does; programs that it started are not touched. */
export function cutSessions(above: number): void {
  for (const pid of descendants(above)) {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "latin1");
      if (command.startsWith("sshd") && !command.includes("[listener]")) process.kill(pid, "SIGKILL");
    } catch {
      // It has ended by itself.
    }
  }
}

const LINES = 4000;

/** What a script must have printed that was followed through cuts. */
export const WHOLE = Array.from({ length: LINES }, (_, index) => `line ${index + 1} of it\n`).join("");

/** Follows a script of some seconds whose status is 7 while its connections are cut, each after something has come over it. */
export async function throughCuts(
  environment: Environment,
  cut: () => void,
): Promise<{ readonly cuts: number; readonly code: number; readonly text: string }> {
  const output = new Sink();
  const running = runOps(
    environment,
    source(
      `i=0; while [ $i -lt ${LINES} ]; do i=$((i + 1)); echo "line $i of it"; [ $((i % 20)) -ne 0 ] || sleep 0.02; done; exit 7`,
    ),
    { output },
  );
  let cuts = 0;
  let waiting = 300;
  output.on("grown", () => {
    if (output.text.length < waiting) return;
    waiting = output.text.length + 3000;
    cuts++;
    cut();
  });
  const { code, text } = await running;
  output.removeAllListeners("grown");
  return { cuts, code, text };
}
