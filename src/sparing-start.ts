/**
 * Settings of JavaScriptCore for a program that mostly waits: what runs now and then stays byte code, and only what runs often is
 * compiled. Compiled code and what goes with it was a third of the memory of a runner with 50 jobs; what moves output and
 * archives is compiled all the same, within its first megabyte.
 */
const LASTING: Readonly<Record<string, string>> = {
  BUN_JSC_thresholdForJITAfterWarmUp: "20000",
  BUN_JSC_thresholdForJITSoon: "5000",
  // WebAssembly: the reader of HTTP answers, which sees heads only.
  BUN_JSC_useBBQJIT: "0",
  BUN_JSC_useOMGJIT: "0",
};

/**
 * For a program that ends after seconds: the optimizing compilers took a fifth of all its processor time, which belongs to the
 * jobs beside it. What moves output still gets the first of them.
 */
const SHORT: Readonly<Record<string, string>> = {
  ...LASTING,
  BUN_JSC_useFTLJIT: "0",
  BUN_JSC_thresholdForOptimizeAfterWarmUp: "10000",
  BUN_JSC_thresholdForOptimizeAfterLongWarmUp: "10000",
  BUN_JSC_thresholdForOptimizeSoon: "5000",
};

/**
 * Has this program start anew, as the same process, with settings of the runtime: they are read from the environment, before any
 * code runs. Nothing happens under Node, on other systems than Linux, and in a process that has them already, in whose
 * environment for others they do not stay.
 */
export function startSparing(stays: "lasting" | "short"): void {
  const settings = stays === "lasting" ? LASTING : SHORT;
  const names = Object.keys(settings);
  if (names.some((name) => process.env[name] !== undefined)) {
    for (const name of names) delete process.env[name];
    return;
  }
  if (process.platform !== "linux" || Reflect.get(globalThis, "Bun") === undefined) return;
  // Types of Node 22 do not have it.
  const execve: unknown = Reflect.get(process, "execve");
  if (typeof execve !== "function") return;
  try {
    Reflect.apply(execve, process, [
      process.execPath,
      [process.argv0, ...process.argv.slice(2)],
      { ...process.env, ...settings },
    ]);
  } catch {
    // Not here: below an emulator the machine itself cannot execute the file. It works as it is, and takes more memory.
  }
}
