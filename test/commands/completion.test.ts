import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { program } from "../support/program.ts";

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "alloy-completion-"));
  symlinkSync(program()[0], join(dir, "alloy-runner"));
  for (const shell of ["bash", "zsh", "fish"]) {
    writeFileSync(join(dir, `completion.${shell}`), execFileSync(program()[0], ["completion", shell]));
  }
  writeFileSync(join(dir, "my config.toml"), "");
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function missing(shell: string): boolean {
  const absent = spawnSync(shell, ["--version"]).status !== 0;
  if (absent && process.env.CI === "true") throw new Error(`${shell} is missing`);
  return absent;
}

function run(shell: string, args: readonly string[]): string {
  const env = { PATH: `${dir}:${process.env.PATH}`, HOME: dir, TERM: "dumb", LANG: "C.UTF-8" };
  const { stdout, stderr, status } = spawnSync(shell, args, { cwd: dir, env, encoding: "utf8", timeout: 60_000 });
  if (status !== 0) throw new Error(`${shell}: ${status}\n${stdout}${stderr}`);
  return stdout;
}

/** Each shell, with a function that lists what it offers for an unfinished line. */
const shells: Readonly<Record<string, (line: string, expected: string) => string[]>> = {
  bash: (line) => {
    // The words are split as readline does it: "=" is a word of its own.
    const words = line.split(/(=)| /).filter((word) => word !== undefined);
    const script = `source ./completion.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _alloy_runner; printf '%s\\n' "\${COMPREPLY[@]}"`;
    return run("bash", ["--norc", "-c", script, "bash", ...words])
      .split("\n")
      .filter(Boolean);
  },
  zsh: (line, expected) => {
    // Starts zsh on a pseudo terminal and has it list its completions.
    const script = `
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PS1=; PROMPT_EOL_MARK=; stty -echo rows 600 columns 200; autoload -Uz compinit; compinit -u -d $PWD/dump; source ./completion.zsh; LISTMAX=0; zstyle ':completion:*' list-colors; bindkey '^X' list-choices; print READ''Y"
zpty -r z out '*READY*'
zpty -n -w z ${JSON.stringify(line)}$'\\x18'
zpty -r z offered '*${expected}*'
zpty -n -w z $'\\x15'"print EN''D"$'\\n'
zpty -r z rest '*END*'
print -r -- "$offered$rest"
zpty -d z`;
    return run("zsh", ["-f", "-c", script])
      .replaceAll(/\u001b\[[0-9;?]*[A-Za-z]/g, "")
      .split(/[\r\n]+|\s{2,}/)
      .map((word) => word.replace(/ +-- .*$/, "").trim())
      .filter((word) => word !== "");
  },
  fish: (line) =>
    run("fish", ["--no-config", "-c", `source ./completion.fish; complete -C ${JSON.stringify(line)}`])
      .split("\n")
      .map((row) => row.split("\t")[0] ?? "")
      .filter(Boolean),
};

describe.each(Object.keys(shells))("completion for %s", (shell) => {
  const absent = missing(shell);
  /**
   * Completes `line`. zsh shows the offer when it is ready, and only the expected word tells when that is.
   * @param expected is in the offer: zsh shows it when it is ready, and nothing else tells when that is
   */
  const complete = (line: string, expected: string): string =>
    (shells[shell]?.(`alloy-runner ${line}`, expected) ?? []).join(" ");

  test.skipIf(absent)(
    `knows commands, their flags, and what follows them${absent ? ` (skipped: no ${shell})` : ""}`,
    () => {
      const commands = complete("reg", "register");
      expect(commands).toContain("register");
      expect(commands).not.toContain("verify");
      const flags = complete("install --", "--working-directory");
      for (const flag of ["--service", "--working-directory", "--dry-run", "--log-level"])
        expect(flags).toContain(flag);
      expect(flags).not.toContain("--registration-token");
      const here = complete("exec --", "--with-needs");
      for (const flag of ["--with-needs", "--dry-run", "--env-file", "--jobs"]) expect(here).toContain(flag);
      expect(complete("register --executor sh", "shell")).toContain("shell");
      expect(complete("run --log-format ", "json")).toMatch(/text.*json|json.*text/s);
      expect(complete("list --config my", "config.toml")).toMatch(/my\\? config\.toml/);
      expect(complete("completion f", "fish")).toContain("fish");
    },
  );
});

test("an unknown shell is named", () => {
  const { status, stderr } = spawnSync(program()[0], ["completion", "tcsh"], { encoding: "utf8" });
  expect(status).toBe(1);
  expect(stderr).toContain('not for "tcsh"');
});
