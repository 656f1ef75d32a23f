import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Windows under Wine with a drive of its own, so that a fault there changes no file of this machine. */
export interface Wine extends Disposable {
  /** Directory that is the drive `T:`. */
  readonly dir: string;
  /** Directory that is the drive `C:`. */
  readonly systemDrive: string;
  /** Environment in which `wine` has to be started. */
  readonly environment: Readonly<Record<string, string>>;
  run(argv: readonly string[], environment?: NodeJS.ProcessEnv): WineResult;
}

interface WineResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export const hasWine = spawnSync("wine", ["--version"]).status === 0;

/** Wine's services wait for one another only so long: on a busy machine a drive may come into being at the second try. */
function makeDrive(env: NodeJS.ProcessEnv, prefix: string): void {
  for (let round = 0; ; round++) {
    const { status, signal } = spawnSync("wine", ["cmd", "/c", "exit"], { env, stdio: "ignore", timeout: 120_000 });
    // The server that made the drive does not have the variables that were written to its registry, nor do its services,
    // so it is ended. It may have ended by itself, which the command calls a failure.
    spawnSync("wineserver", ["-k", "-w"], { env, timeout: 60_000 });
    if (status === 0) return;
    if (round === 2) throw new Error(`wine makes no drive: status ${status ?? signal}`);
    rmSync(prefix, { recursive: true, force: true, maxRetries: 5 });
  }
}

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
    // Wine must not offer to install .NET and a browser.
    WINEDLLOVERRIDES: "mscoree,mshtml=",
  };
  makeDrive(own, prefix);
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
      // Ends this prefix's own server and its processes, and waits for them.
      spawnSync("wineserver", ["-k", "-w"], { env: own, timeout: 30_000 });
      rmSync(home, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
