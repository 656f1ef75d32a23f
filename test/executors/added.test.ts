import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { emptyHome } from "../support/program.ts";

/** CONTRIBUTING promises that every command knows an executor that is added with its folder and its line. */

const main = join(import.meta.dirname, "../support/paper/main.ts");
let home: Awaited<ReturnType<typeof emptyHome>>;
let coordinator: LocalCoordinator;
beforeEach(async () => {
  home = await emptyHome();
  coordinator = await startCoordinator({ dialect: "gitlab" });
});
afterEach(async () => {
  await coordinator.close();
  await home.dispose();
});

const surroundings = () => ({
  cwd: home.dir,
  env: { PATH: process.env.PATH ?? "", HOME: home.dir, TMPDIR: home.dir },
});

function run(...args: string[]): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [main, ...args], surroundings(), (_, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, output: stdout + stderr }),
    );
    child.stdin?.end();
  });
}

test("the help has its flags under its title, after those of everybody", async () => {
  const { output } = await run("register", "--help");
  expect(output.match(/^\S.*:$/gm)).toEqual([
    "General:",
    "Coordinator:",
    "Jobs:",
    "Cache:",
    "Docker:",
    "SSH:",
    "Docker Machine:",
    "Instance:",
    "Custom:",
    "VirtualBox:",
    "Parallels:",
    "Kubernetes:",
    "Paper:",
  ]);
  expect(output).toMatch(
    /--executor <name> .*shell, docker, ssh, docker-ssh,\s+docker\+machine,\s+docker-ssh\+machine,\s+instance,\s+docker-autoscaler,\s+custom,\s+virtualbox,\s+parallels,\s+kubernetes,\s+paper/s,
  );
  expect(output).toMatch(/--paper-colour <value>\s+of the sheet\s+\(env:\s+PAPER_COLOUR\)/);
});

test("it is registered with its table, works on jobs, and is checked", async () => {
  const file = join(home.dir, "config.toml");
  const asked = ["register", "-n", "-c", file, "-u", coordinator.url, "-r", coordinator.registrationToken];
  const incomplete = await run(...asked, "--executor", "paper");
  expect(incomplete.output).toContain("--paper-colour is needed");
  const registered = await run(...asked, "--executor", "paper", "--paper-colour", "red");
  expect(registered.code, registered.output).toBe(0);
  expect(await readFile(file, "utf8")).toMatch(/\[runners\.paper\]\n\s*colour = "red"/);

  const runner = spawn(process.execPath, [main, "run", "-c", file, "-d", home.dir], {
    ...surroundings(),
    stdio: ["ignore", "ignore", "inherit"],
  });
  const ended = once(runner, "exit");
  try {
    const job = coordinator.enqueue({ script: ["echo on $0 paper"] });
    expect((await job.reported({ timeoutMs: 30_000 })).state).toBe("success");
    expect(job.trace).toContain("Using Paper executor...");
  } finally {
    runner.kill("SIGTERM");
    await ended;
  }
  await writeFile(file, (await readFile(file, "utf8")).replace("colour", "color"));
  const refused = await run("list", "-c", file);
  expect(refused.code).toBe(1);
  expect(refused.output).toMatch(/config\.toml:\d+: runners\.paper\.colour of ".*" is missing/);
});

test("exec runs a pipeline with it", async () => {
  await writeFile(join(home.dir, ".alloy-ci.yml"), "one: {script: [echo drawn]}\n");
  const { code, output } = await run("exec", "--executor", "paper", "--paper-colour", "red");
  expect(code, output).toBe(0);
  expect(output).toContain("drawn");
  expect((await run("exec", "--paper-colour", "red")).output).toContain("add --executor paper");
});
