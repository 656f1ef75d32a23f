import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { commandLine } from "../../../executors/ssh/connection/command-line.ts";

const shells = ["/bin/sh", "/bin/bash", "/bin/dash", "/usr/bin/zsh", "/bin/csh", "/usr/bin/fish"].filter(existsSync);

/** Dropbear's `MAX_CMD_LEN`. */
const MOST_BYTES = 9000;

test.each(shells)("a program of any length starts from a short line by %s, and has its input whole", (shell) => {
  const odd = 'it\'s "$HOME" \\n \xff\xfe `x`\n!';
  for (const bytes of [10, 5000, 300_000]) {
    const script = `printf '%s|' "$@"; cat\n# ${"$".repeat(bytes)}`;
    const { line, input } = commandLine(script, [odd, "", "last"], "begin");
    expect(line.length).toBeLessThan(MOST_BYTES);
    const given = "first line\n\\second\0";
    const { stdout } = spawnSync(shell, ["-c", line], { input: Buffer.from(input + given, "latin1") });
    expect(stdout.toString("latin1")).toBe(`begin\n${odd}||last|${given}`);
  }
});
