import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { emptyHome, program } from "../support/program.ts";

let home: { dir: string; dispose(): Promise<void> };
beforeEach(async () => {
  home = await emptyHome();
});
afterEach(async () => await home.dispose());

/** Runs the program by a shell, whose `"$@"` it is. */
function under(script: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync("bash", ["-c", script, "bash", ...program(), ...args], {
    encoding: "utf8",
    cwd: home.dir,
    env: { PATH: process.env.PATH, HOME: home.dir },
  });
  return { status, stdout, stderr };
}

const FULL = "alloy-runner: Standard output cannot be written: ENOSPC: no space left on device, write\n";
const COMMANDS = ["schema gitlab-ci", "completion zsh", "register --help", "--help"];

describe.each(COMMANDS)("what %s prints", (command) => {
  const args = command.split(" ");

  test("comes whole through a pipe that takes less at once", async () => {
    const file = join(home.dir, "whole");
    expect(under(`"$@" >${file}`, ...args)).toMatchObject({ status: 0, stderr: "" });
    const whole = await readFile(file, "utf8");
    // The reader begins when the pipe is full, or when all of it is in the pipe.
    const { stdout, stderr } = under('"$@" | { read -r first; printf "%s\\n" "$first"; cat; }', ...args);
    expect(stdout === whole, `${stdout.length} of ${whole.length}`).toBe(true);
    expect(stderr).toBe("");
  });

  test("is enough for whoever closes the pipe", () => {
    expect(under('exec 3> >(true); wait $!; "$@" >&3 3>&-', ...args)).toEqual({ status: 0, stdout: "", stderr: "" });
  });

  test.skipIf(!existsSync("/dev/full"))("is an error where it cannot be written", () => {
    expect(under('"$@" >/dev/full', ...args)).toEqual({ status: 1, stdout: "", stderr: FULL });
  });
});

test.skipIf(!existsSync("/dev/full"))("findings that cannot be written leave the status what it is", async () => {
  expect(under('"$@" >/dev/full', "lint", "absent.toml")).toEqual({ status: 1, stdout: "", stderr: FULL });
  expect(under('"$@" >/dev/full', "doctor", "--config", "absent.toml")).toEqual({
    status: 2,
    stdout: "",
    stderr: FULL,
  });
});

test.skipIf(!existsSync("/dev/full"))("a pipeline whose output cannot be written fails, and says it once", async () => {
  await writeFile(join(home.dir, ".alloy-ci.yml"), "one:\n  script: [echo done]\n");
  expect(under("git init -q").status).toBe(0);
  const { status, stderr } = under('"$@" >/dev/full', "exec");
  expect([status, stderr.match(/^alloy-runner: .*\n/gm)], stderr).toEqual([1, [FULL]]);
});
