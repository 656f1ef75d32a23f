import { SystemFailure } from "../../../src/errors.ts";
import type { ExecutorDeps } from "../../../src/executor/deps.ts";
import type { PrepareRequest } from "../../../src/executor/prepare.ts";
import type { ShellName } from "../../../src/shell.ts";
import { deadline, never } from "../../../src/time.ts";
import { jobMark, probeTools } from "../../remote/index.ts";
import { sshCommands } from "../connection/commands.ts";
import type { Link } from "../connection/link.ts";
import type { SshEnvironmentOptions } from "../environment.ts";
import { type Claim, claimWorkingCopy } from "./claim.ts";
import { withProfile } from "./profile.ts";

/** Relative to the account's home. */
export const DEFAULT_BUILDS_DIR = "builds";

const RELEASE_MS = 10_000;

export interface WorkingCopyOptions {
  readonly link: Link;
  readonly deps: ExecutorDeps;
  readonly request: PrepareRequest;
  readonly ephemeral: boolean;
  /** For messages. */
  readonly host: string;
  /** Says what has no such shell, and what to do about it: `far.example has no bash. Install it there`. */
  readonly without: (shell: ShellName) => string;
  /** The job has it, before it may choose another directory for its sources. */
  readonly onClaimed?: (claim: Claim) => void;
}

/**
 * A working copy that is the job's, and what its account has to work with.
 * @throws {SystemFailure} it cannot be had, or the operator wants a shell that is not there
 */
export async function openWorkingCopy(
  { link, deps, request, ephemeral, host, without, onClaimed }: WorkingCopyOptions,
  signal: AbortSignal,
): Promise<Omit<SshEnvironmentOptions, "cleanUp" | "location" | "keepsFiles">> {
  const { log, entry } = deps;
  const { killLeftovers, killGraceMs, buildsDir = DEFAULT_BUILDS_DIR } = entry;
  const { job, jobKey, runnerId, projectPath, trust } = request;
  const commands = sshCommands(link);
  const mark = jobMark(jobKey);
  const { projectId } = job;
  const wanted = { buildsDir, runnerId, projectPath, projectId, trust, jobKey, mark, killGraceMs, ephemeral, host };
  const claimed = await claimWorkingCopy(commands, wanted, signal);
  onClaimed?.(claimed);
  const claim = await inChosenRoot(claimed, request, signal);
  // PowerShell reads no profiles: those of the account are for its sh or bash.
  const login = entry.shell === "pwsh" ? undefined : entry.shell;
  const profiled = await withProfile(commands, { tmpDir: claim.tmpDir, shell: login, mark }, signal);
  const tools = await probeTools(profiled, signal);
  const shell = entry.shell ?? (tools.bash === null ? "sh" : "bash");
  if ((shell === "bash" && tools.bash === null) || (shell === "pwsh" && !tools.programs.has(shell))) {
    throw new SystemFailure(`${without(shell)}, or set shell = "sh"`, { reason: "runner_configuration_error" });
  }
  return { link, commands, profiled, tools, claim, shell, mark, killLeftovers, killGraceMs, log };
}

/**
 * The job's sources where it wants them; its private files stay where they are. A refusal leaves no claim behind.
 * @throws {SystemFailure} another job has that directory, or links lead out of the builds directory
 */
async function inChosenRoot(claim: Claim, { chosenRoot }: PrepareRequest, signal: AbortSignal): Promise<Claim> {
  try {
    const chosen = chosenRoot?.({ buildsDir: claim.buildsDir, projectSlot: claim.slot }) ?? null;
    if (chosen === null || chosen === claim.root) return claim;
    const why = await claim.choose(chosen, signal);
    if (why === null) return { ...claim, root: chosen };
    throw new SystemFailure(
      `GIT_CLONE_PATH is ${JSON.stringify(chosen.slice(0, 300))}, which ${why}. With $CI_CONCURRENT_ID in its path each job has one of its own`,
      { reason: "runner_configuration_error" },
    );
  } catch (error) {
    using grace = deadline(never, RELEASE_MS, new Error("the working copy is not let go"));
    await claim.release(true, grace.signal).catch(() => {});
    throw error;
  }
}
