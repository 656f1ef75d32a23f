/**
 * Loaded before anything else. Node opens a debugger to whoever may send SIGUSR1 unless somebody listens to it, and `run`
 * listens only once it is up; where nothing listens, Bun ends the process.
 */
if (process.platform !== "win32") process.on("SIGUSR1", () => {});
