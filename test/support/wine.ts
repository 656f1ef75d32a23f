import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Windows as Wine plays it, with one drive, so that nothing that goes wrong in there reaches this machine's files. */
export interface Wine extends Disposable {
  /** What `T:` shows. */
  readonly dir: string;
  /** What `C:` shows. */
  readonly systemDrive: string;
  /** With what `wine` has to be started. */
  readonly environment: Readonly<Record<string, string>>;
  run(argv: readonly string[], environment?: NodeJS.ProcessEnv): WineResult;
}

interface WineResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export const hasWine = spawnSync("wine", ["--version"]).status === 0;

/** Takes about ten seconds. */
export function openWine(): Wine {
  const home = mkdtempSync(join(tmpdir(), "alloy-wine-"));
  const [prefix, dir] = [join(home, "prefix"), join(home, "t")];
  mkdirSync(dir);
  const own = {
    PATH: process.env.PATH ?? "/usr/bin:/bin",
    HOME: home,
    WINEPREFIX: prefix,
    WINEDEBUG: "-all",
    DISPLAY: "",
    LC_ALL: "C.UTF-8",
    // Neither .NET nor a browser is offered.
    WINEDLLOVERRIDES: "mscoree,mshtml=",
  };
  execFileSync("wine", ["cmd", "/c", "exit"], { env: own, stdio: "ignore", timeout: 120_000 });
  // What made the drive has not the variables that it wrote down there, nor have the services that it started: end it.
  execFileSync("wineserver", ["-k", "-w"], { env: own, timeout: 60_000 });
  unlinkSync(join(prefix, "dosdevices", "z:"));
  symlinkSync(dir, join(prefix, "dosdevices", "t:"));
  return {
    dir,
    systemDrive: join(prefix, "drive_c"),
    environment: own,
    run: (argv, environment = {}) => {
      const result = spawnSync("wine", [...argv], {
        cwd: dir,
        env: { ...environment, ...own },
        stdio: ["ignore", "pipe", "pipe"],
        maxBuffer: 1 << 26,
        timeout: 60_000,
      });
      return { status: result.status, stdout: result.stdout.toString(), stderr: result.stderr.toString() };
    },
    [Symbol.dispose]: () => {
      // Ends this prefix's own server and what it started, and waits for that.
      spawnSync("wineserver", ["-k", "-w"], { env: own, timeout: 30_000 });
      rmSync(home, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
