import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Config } from "../../config/config.ts";
import { findProgram } from "../../config/program.ts";
import { describeError } from "../../errors.ts";
import type { CommandContext } from "../context.ts";
import { type Note, ok } from "./finding.ts";

const run = promisify(execFile);
/** What get_sources needs. */
const OLDEST_GIT = [2, 17] as const;

/** Checks only entries whose jobs run on this machine itself; images bring their own programs. */
export async function checkPrograms({ runners }: Config, context: CommandContext): Promise<Note[]> {
  const here = runners.filter(({ executor }) => executor === "shell");
  if (here.length === 0) return [];
  const { env, cwd } = context;
  const names = new Set(["git", ...here.flatMap(({ shell }) => shell ?? [])]);
  const notes: Note[] = [];
  for (const program of names) {
    const found = await findProgram(program, { env, workingDirectory: cwd });
    if ("problem" in found) {
      const remedy =
        program === "git"
          ? "Install git, or put it into the PATH of the runner's service"
          : "Install it, or set another shell";
      notes.push({ severity: "error", check: "programs", of: program, cause: found.problem, remedy });
      continue;
    }
    const said = await run(found.path, ["--version"], { timeout: 10_000 }).then(
      ({ stdout }) => stdout.split("\n", 1)[0] ?? "",
      describeError,
    );
    const old = program === "git" ? tooOld(said) : null;
    if (old !== null) {
      const remedy = `Install git ${OLDEST_GIT.join(".")} or newer`;
      notes.push({ severity: "error", check: "programs", of: program, cause: old, remedy });
    } else notes.push(ok("programs", program, said.slice(0, 100)));
  }
  return [...notes, await lfs(context)];
}

/** What is wrong with the version that git says it has, or null. */
function tooOld(said: string): string | null {
  const [, major, minor] = /^git version (\d+)\.(\d+)/.exec(said) ?? [];
  if (major === undefined || minor === undefined) return `does not say its version: ${said.slice(0, 100)}`;
  const [oldMajor, oldMinor] = OLDEST_GIT;
  const newer = Number(major) > oldMajor || (Number(major) === oldMajor && Number(minor) >= oldMinor);
  return newer ? null : `is ${major}.${minor}, with which sources cannot be fetched`;
}

/** Most repositories do without. */
async function lfs({ env, cwd }: CommandContext): Promise<Note> {
  const found = await findProgram("git-lfs", { env, workingDirectory: cwd });
  if ("problem" in found) {
    return ok("programs", "git-lfs", "is not there: large files of repositories that use it stay pointers");
  }
  const said = await run(found.path, ["version"], { timeout: 10_000 }).then(
    ({ stdout }) => stdout.trim(),
    describeError,
  );
  return ok("programs", "git-lfs", said.slice(0, 100));
}
