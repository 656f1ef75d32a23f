import { SystemFailure } from "../../../src/errors.ts";
import type { ExecutorDeps } from "../../../src/executor/deps.ts";
import type { Notes, PrepareRequest } from "../../../src/executor/prepare.ts";
import type { ShellName } from "../../../src/shell.ts";
import { deadline, never } from "../../../src/time.ts";
import { jobMark, probeTools, type RemoteCommands } from "../../remote/index.ts";
import { sshCommands } from "../connection/commands.ts";
import type { Link } from "../connection/link.ts";
import type { SshEnvironmentOptions } from "../environment.ts";
import { canLast } from "./can-last.ts";
import { type Claim, type ClaimOwner, claimWorkingCopy, type HeldClaim, resumeClaim } from "./claim.ts";
import { keepClaim, type LastingClaim, withinLease } from "./lasting-claim.ts";
import { withProfile } from "./profile.ts";

/** Relative to the account's home. */
export const DEFAULT_BUILDS_DIR = "builds";

const RELEASE_MS = 10_000;
const DEFAULT_LEASE_MS = 600_000;

export interface WorkingCopyOptions {
  readonly link: Link;
  readonly deps: ExecutorDeps;
  readonly request: PrepareRequest;
  readonly ephemeral: boolean;
  /** For messages. */
  readonly host: string;
  /** Says what has no such shell, and what to do about it: `far.example has no bash. Install it there`. */
  readonly without: (shell: ShellName) => string;
  /** Told why the job ends with its connection, where it should not. */
  readonly notes: Pick<Notes, "print">;
  /** The job has it, before it may choose another directory for its sources. */
  readonly onClaimed?: (claim: Claim) => void;
}

/** What a job has at its host, besides what only its executor knows. */
type Opened = Omit<SshEnvironmentOptions, "cleanUp" | "location" | "keepsFiles">;

/**
 * A working copy that is the job's, and what its account has to work with.
 * @throws {SystemFailure} it cannot be had, or the operator wants a shell that is not there
 */
export async function openWorkingCopy(
  { link, deps, request, ephemeral, host, without, onClaimed, notes }: WorkingCopyOptions,
  signal: AbortSignal,
): Promise<Opened> {
  const { entry } = deps;
  const { job, jobKey, runnerId, projectPath, trust } = request;
  const commands = sshCommands(link);
  const lasts = entry.durable === true && !ephemeral && (await canLast(commands, host, notes, signal));
  const leaseMs = lasts ? leaseOf(deps) : 0;
  const owner = ownerOf(deps, { jobKey, runnerId, trust, host, ephemeral, leaseMs });
  const held = await claimWorkingCopy(commands, { ...owner, projectPath, projectId: job.projectId }, signal);
  const kept = lasts ? keeping(link, held, owner) : null;
  onClaimed?.(held);
  try {
    const claim = await inChosenRoot(kept ?? held, request, signal);
    return await equipped({ link, commands, deps, claim, kept, owner, without, shell: entry.shell }, signal);
  } catch (error) {
    // Without a word the host would wait for somebody who goes on with it.
    if (kept !== null) await letGo(kept);
    kept?.close();
    throw error;
  }
}

/** A working copy as an earlier process of the runner has left it. */
export interface LeftCopy extends Pick<WorkingCopyOptions, "link" | "deps" | "host" | "without"> {
  readonly request: Pick<PrepareRequest, "jobKey" | "runnerId" | "trust">;
  /** `Claim.ownDir` */
  readonly ownDir: string;
  /** Where the job's sources are. */
  readonly root: string;
  readonly shell: ShellName;
}

/**
 * Goes on with a job's working copy; scripts that run in it are not touched.
 * @throws {SystemFailure} it is not the job's any more
 */
export async function resumeWorkingCopy(
  { link, deps, request, host, without, ownDir, root, shell }: LeftCopy,
  signal: AbortSignal,
): Promise<Opened> {
  const commands = sshCommands(link);
  const owner = ownerOf(deps, { ...request, host, ephemeral: false, leaseMs: leaseOf(deps) });
  link.keep();
  const held = await withinLease(owner, () => resumeClaim(commands, ownDir, owner, signal), signal);
  if (held === null)
    throw new SystemFailure(`the job is gone on ${host}: it was ended there, or the host was restarted`);
  const kept = keeping(link, held, owner);
  try {
    return await equipped({ link, commands, deps, claim: { ...kept, root }, kept, owner, without, shell }, signal);
  } catch (error) {
    kept.close();
    throw error;
  }
}

/** How long a host waits for somebody who goes on with a job. */
export function leaseOf({ entry }: ExecutorDeps): number {
  return entry.resumeTimeoutMs ?? DEFAULT_LEASE_MS;
}

function ownerOf(
  { entry }: ExecutorDeps,
  whose: Pick<ClaimOwner, "jobKey" | "runnerId" | "trust" | "host" | "ephemeral" | "leaseMs">,
): ClaimOwner {
  const { killGraceMs, buildsDir = DEFAULT_BUILDS_DIR } = entry;
  return { ...whose, mark: jobMark(whose.jobKey), killGraceMs, buildsDir };
}

function keeping(link: Link, held: HeldClaim, owner: ClaimOwner): LastingClaim {
  const { leaseMs, host } = owner;
  const commands = sshCommands(link);
  link.keep();
  return keepClaim(held, { again: (signal) => resumeClaim(commands, held.ownDir, owner, signal), leaseMs, host });
}

async function letGo(claim: Claim): Promise<void> {
  using grace = deadline(never, RELEASE_MS, new Error("the working copy is not let go"));
  await claim.release(true, grace.signal).catch(() => {});
}

interface Equipping extends Pick<WorkingCopyOptions, "link" | "deps" | "without"> {
  readonly commands: RemoteCommands;
  readonly claim: Claim;
  readonly kept: LastingClaim | null;
  readonly owner: ClaimOwner;
  readonly shell: ShellName | undefined;
}

/** Finds out what the account has to work with. */
async function equipped(
  { link, commands, deps, claim, kept, owner, without, shell: wanted }: Equipping,
  signal: AbortSignal,
): Promise<Opened> {
  const { log, entry } = deps;
  const { mark, leaseMs } = owner;
  // PowerShell reads no profiles: those of the account are for its sh or bash.
  const login = wanted === "pwsh" ? undefined : wanted;
  const profiled = await withProfile(commands, { tmpDir: claim.tmpDir, shell: login, mark }, signal);
  const tools = await probeTools(profiled, signal);
  const shell = wanted ?? (tools.bash === null ? "sh" : "bash");
  if ((shell === "bash" && tools.bash === null) || (shell === "pwsh" && !tools.programs.has(shell))) {
    throw new SystemFailure(`${without(shell)}, or set shell = "sh"`, { reason: "runner_configuration_error" });
  }
  const { killLeftovers, killGraceMs } = entry;
  const lasting = kept === null ? null : { claim: kept, leaseMs };
  return { link, commands, profiled, tools, claim, lasting, shell, mark, killLeftovers, killGraceMs, log };
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
    await letGo(claim);
    throw error;
  }
}
