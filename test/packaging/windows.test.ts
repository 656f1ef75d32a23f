import { execFileSync, spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator.ts";

const top = join(import.meta.dirname, "../..");
const has = (program: string): boolean => spawnSync(program, ["--version"]).status === 0;
const missing =
  process.arch !== "x64" ? "needs x64" : ["wine", "x86_64-w64-mingw32-gcc"].find((program) => !has(program));
if (missing !== undefined && process.env.CI === "true") throw new Error(`the tests of Windows need ${missing}`);

/** Wine 8 has no bcryptprimitives.dll, which each Windows since 7 has and Bun's runtime wants for random numbers. */
const RANDOM = `#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);
__declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE *data, SIZE_T size) { return SystemFunction036(data, (ULONG)size); }
`;

const RUNNER = "C:\\run\\alloy-runner.exe";

describe.skipIf(missing !== undefined)(
  `windows-x64 under wine${missing === undefined ? "" : ` (skipped: ${missing})`}`,
  () => {
    let dir: string;
    let drive: string;
    let env: Record<string, string>;
    let coordinator: LocalCoordinator;

    beforeAll(async () => {
      dir = await mkdtemp(join(tmpdir(), "alloy-wine-"));
      drive = join(dir, "prefix/drive_c");
      env = {
        PATH: process.env.PATH ?? "/usr/bin:/bin",
        HOME: dir,
        WINEPREFIX: join(dir, "prefix"),
        WINEDEBUG: "-all",
        WINEDLLOVERRIDES: "mscoree,mshtml=",
        DISPLAY: "",
      };
      execFileSync(process.execPath, ["scripts/binary.mjs", "windows-x64", "--no-smoke"], { cwd: top });
      execFileSync("wine", ["cmd", "/c", "exit"], { env, stdio: "ignore" });
      await mkdir(join(drive, "run"));
      await copyFile(join(top, "out/alloy-runner-windows-x64.exe"), join(drive, "run/alloy-runner.exe"));
      await copyFile(
        join(top, "out/alloy-runner-service-windows-x64.exe"),
        join(drive, "run/alloy-runner-service.exe"),
      );
      await writeFile(join(dir, "random.c"), RANDOM);
      const dll = join(drive, "run/bcryptprimitives.dll");
      execFileSync("x86_64-w64-mingw32-gcc", ["-shared", "-o", dll, join(dir, "random.c"), "-ladvapi32"]);
      coordinator = await startCoordinator({ dialect: "alloy" });
    }, 180_000);
    afterAll(async () => {
      // Ends this prefix's own server and what it started, and waits for that.
      if (env !== undefined) spawnSync("wineserver", ["-k", "-w"], { env, timeout: 30_000 });
      await coordinator?.close();
      await rm(dir, { recursive: true, force: true, maxRetries: 5 });
    });

    const runner = (...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> =>
      new Promise((resolve, reject) => {
        // Into files: wine's own services inherit what they are given, and would keep a pipe open for ever.
        const [outFile, errFile] = [join(dir, "stdout"), join(dir, "stderr")];
        const [out, err] = [openSync(outFile, "w"), openSync(errFile, "w")];
        const child = spawn("wine", [RUNNER, ...args], { env, stdio: ["ignore", out, err], timeout: 100_000 });
        closeSync(out);
        closeSync(err);
        child.on("error", reject);
        child.on("exit", (code) =>
          resolve({ code, stdout: readFileSync(outFile, "utf8"), stderr: readFileSync(errFile, "utf8") }),
        );
      });

    test("says its version and is registered by flags", async () => {
      expect((await runner("--version")).stdout).toContain("platform win32/x64");
      const flags = [
        "--non-interactive",
        "--url",
        coordinator.url,
        "--registration-token",
        coordinator.registrationToken,
      ];
      const registered = await runner(
        "register",
        "--config",
        "C:\\run\\config.toml",
        ...flags,
        "--name",
        "w",
        "--executor",
        "shell",
      );
      expect(registered.stderr).not.toContain("Cannot");
      expect(registered.code).toBe(0);
      expect(coordinator.runners).toHaveLength(1);
      expect(await readFile(join(drive, "run/config.toml"), "utf8")).toContain('executor = "shell"');
    }, 120_000);

    test("is a service that starts, drains when stopped, and is uninstalled", async () => {
      const stateDir = 'state_dir = "C:/run/state"\n';
      const file = join(drive, "run/service.toml");
      await writeFile(file, stateDir);
      const install = [
        "install",
        "--config",
        "C:\\run\\service.toml",
        "--working-directory",
        "C:\\run",
        "--service",
        "ci.one",
      ];
      expect(await runner(...install)).toMatchObject({ code: 0 });
      expect((await runner("status", "--service", "ci.one")).code).toBe(1);
      expect(await runner("start", "--service", "ci.one")).toMatchObject({ code: 0 });
      const log = join(drive, "ProgramData/alloy-runner/ci.one.log");
      for (const end = Date.now() + 60_000; Date.now() < end; ) {
        if (existsSync(log) && (await readFile(log, "utf8")).includes("configuration in force")) break;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      const status = await runner("status", "--service", "ci.one");
      expect(status.stdout).toContain("ci.one: running");
      expect(status.code).toBe(0);
      const stopped = await runner("stop", "--service", "ci.one");
      expect(stopped.code).toBe(0);
      const lines = await readFile(log, "utf8");
      expect(lines).toContain("asking for no more jobs");
      expect(lines.trimEnd()).toMatch(/INFO {2}ended$/);
      expect(await runner("uninstall", "--service", "ci.one")).toMatchObject({ code: 0 });
      expect((await runner("status", "--service", "ci.one")).stderr).toContain("not installed");
    }, 180_000);
  },
);
