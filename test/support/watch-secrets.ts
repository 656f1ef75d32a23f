import { readdirSync, readFileSync } from "node:fs";

/** Reads the argument lists of all processes, again and again. */
export interface SecretWatch extends Disposable {
  /** `name of the secret: argument list`, each once. */
  readonly found: readonly string[];
  /** Number of looks so far. */
  readonly looks: number;
}

export function watchArguments(secrets: () => readonly string[], everyMs = 25): SecretWatch {
  const found = new Set<string>();
  let looks = 0;
  const timer = setInterval(() => {
    looks++;
    const values = secrets();
    for (const pid of processes()) {
      const words = read(`/proc/${pid}/cmdline`);
      if (values.some((value) => words.includes(value))) found.add(words.replaceAll("\0", " "));
    }
  }, everyMs);
  return {
    get found() {
      return [...found];
    },
    get looks() {
      return looks;
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

/** Living processes with `text` in their environment. */
export function processesWith(text: string): string[] {
  return processes().filter((pid) => {
    const state = read(`/proc/${pid}/stat`);
    return !/^\d+ \(.*\) Z /s.test(state) && read(`/proc/${pid}/environ`).includes(text);
  });
}

function processes(): string[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name));
}

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return ""; // the process has ended
  }
}
