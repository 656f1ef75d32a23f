import { execFileSync, spawn, spawnSync } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { openWine, type Wine } from "../support/wine.ts";

const top = join(import.meta.dirname, "../..");
const has = (program: string): boolean => spawnSync(program, ["--version"]).status === 0;
const missing =
  process.arch !== "x64" ? "needs x64" : ["wine", "x86_64-w64-mingw32-gcc"].find((program) => !has(program));
if (missing !== undefined && process.env.CI === "true") throw new Error(`the tests of Windows need ${missing}`);

/**
 * Wine 8 lacks bcryptprimitives.dll, which each Windows since 7 has and which Bun's runtime uses for random numbers.
 */
const RANDOM = `#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);
__declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE *data, SIZE_T size) { return SystemFunction036(data, (ULONG)size); }
`;

const RUNNER = "C:\\run\\alloy-runner.exe";

describe.skipIf(missing !== undefined)(
  `windows-x64 under wine${missing === undefined ? "" : ` (skipped: ${missing})`}`,
  () => {
    let wine: Wine;
    let place: string;
    let coordinator: LocalCoordinator;

    beforeAll(async () => {
      execFileSync(process.execPath, ["scripts/binary.mjs", "windows-x64", "--no-smoke"], { cwd: top });
      wine = openWine();
      place = join(wine.systemDrive, "run");
      await mkdir(place);
      await copyFile(join(top, "out/alloy-runner-windows-x64.exe"), join(place, "alloy-runner.exe"));
      await copyFile(join(top, "out/alloy-runner-service-windows-x64.exe"), join(place, "alloy-runner-service.exe"));
      await writeFile(join(wine.dir, "random.c"), RANDOM);
      const dll = join(place, "bcryptprimitives.dll");
      execFileSync("x86_64-w64-mingw32-gcc", ["-shared", "-o", dll, join(wine.dir, "random.c"), "-ladvapi32"]);
      coordinator = await startCoordinator({ dialect: "alloy" });
    }, 180_000);
    afterAll(async () => {
      await coordinator?.close();
      wine?.[Symbol.dispose]();
    }, 60_000);

    // `wine.run` would block, but the coordinator is in this process and has to answer meanwhile.
    const wineRun = (...argv: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> =>
      new Promise((resolve, reject) => {
        // The output goes to files, because wine's own services inherit it and would keep a pipe open for ever.
        const [outFile, errFile] = [join(wine.dir, "stdout"), join(wine.dir, "stderr")];
        const [out, err] = [openSync(outFile, "w"), openSync(errFile, "w")];
        const child = spawn("wine", argv, {
          cwd: wine.dir,
          env: { ...wine.environment, SERVICE_PASSWORD: "pä ss" },
          stdio: ["ignore", out, err],
          timeout: 100_000,
        });
        closeSync(out);
        closeSync(err);
        child.on("error", reject);
        child.on("exit", (code) =>
          resolve({ code, stdout: readFileSync(outFile, "utf8"), stderr: readFileSync(errFile, "utf8") }),
        );
      });

    const runner = (...args: string[]) => wineRun(RUNNER, ...args);

    test("says its version and is registered by flags", async () => {
      expect((await runner("--version")).stdout).toContain("platform win32/x64");
      const config = ["--config", "C:\\run\\config.toml", "--name", "w", "--executor", "shell"];
      const there = ["--url", coordinator.url, "--registration-token", coordinator.registrationToken];
      const registered = await runner("register", "--non-interactive", ...config, ...there);
      expect(registered.stderr).not.toContain("Cannot");
      expect(registered.code).toBe(0);
      expect(coordinator.runners).toHaveLength(1);
      expect(await readFile(join(place, "config.toml"), "utf8")).toContain('executor = "shell"');
    }, 120_000);

    test("is a service that runs Batch jobs, drains when stopped, and is uninstalled", async () => {
      const file = join(place, "config.toml");
      await writeFile(file, `state_dir = "C:/run/state"\n${await readFile(file, "utf8")}`);
      await mkdir(join(place, "state/control"), { recursive: true });
      await writeFile(join(place, "state/control/pipe.json"), "{}");
      const service = ["--service", "ci.one"];
      const places = ["--config", "C:\\run\\config.toml", "--working-directory", "C:\\run"];
      // Wine's sc does not know "config", so the service keeps its account, and cannot start with more rights than that
      // one has.
      const other = await runner("install", ...places, "--service", "ci.two", "--init-user", "builder");
      expect(other.stderr).toMatch(/sc\.exe config ci\.two .* ended with/);
      const key = "HKLM\\SYSTEM\\CurrentControlSet\\Services\\ci.two";
      const { stdout } = await wineRun("reg", "query", key);
      expect(stdout).toMatch(/ObjectName\s+REG_SZ\s+\.\\builder/);
      expect(stdout).toMatch(/Start\s+REG_DWORD\s+0x4/);
      expect(await runner("uninstall", "--service", "ci.two")).toMatchObject({ code: 0 });
      expect(await runner("install", ...service, ...places)).toMatchObject({ code: 0 });
      expect((await runner("status", ...service)).code).toBe(1);
      expect(await runner("start", ...service)).toMatchObject({ code: 0 });

      // Wine has no git.
      const variables = Object.entries({ GIT_STRATEGY: "none", GREETING: "grüße, %PATH%" }).map(([key, value]) => ({
        key,
        value,
        public: true,
      }));
      const made = coordinator.enqueue({
        variables,
        script: ["echo hello from %CI_JOB_ID%", 'echo "!GREETING!"', "mkdir out", "echo built> out\\app.txt"],
        artifacts: { paths: ["out/"] },
      });
      const failing = coordinator.enqueue({ variables, script: ["echo before", "exit 3", "echo after"] });
      for (const job of [made, failing]) await job.finished({ timeoutMs: 120_000 });
      expect(made.trace).toContain(`hello from ${made.id}`);
      expect(made.trace).toContain('"grüße, %PATH%"');
      expect([made.status, failing.status]).toEqual(["success", "failed"]);
      expect(made.artifacts).toHaveLength(1);
      expect(failing.trace).toContain("exit status 3");
      expect(failing.trace).not.toMatch(/^after/m);

      // The control pipe, which a directory of an earlier start does not keep from being made.
      const jobs = await runner("jobs", "--json", "--config", "C:\\run\\config.toml");
      expect(jobs.stderr).toBe("");
      expect(JSON.parse(jobs.stdout)).toMatchObject({ state: "running", runners: [{ name: "w", executor: "shell" }] });

      const status = await runner("status", ...service);
      expect(status.stdout).toContain("ci.one: running");
      expect(status.code).toBe(0);
      expect((await runner("stop", ...service)).code).toBe(0);
      const lines = await readFile(join(wine.systemDrive, "ProgramData/alloy-runner/ci.one.log"), "utf8");
      expect(lines).toContain("asking for no more jobs");
      expect(lines.trimEnd()).toMatch(/INFO {2}ended$/);
      expect(lines).not.toMatch(/ (?:WARN|ERROR) /);
      expect(await readdir(join(place, "state/jobs"))).toEqual([]);
      expect(await readdir(join(place, "state/lock"))).toEqual([]);
      expect(await runner("uninstall", ...service)).toMatchObject({ code: 0 });
      expect((await runner("status", ...service)).stderr).toContain("not installed");
    }, 300_000);
  },
);
