import { describeError, SystemFailure } from "../../src/errors.ts";
import type { ExecutorDeps } from "../../src/executor/deps.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { Notes, PrepareRequest } from "../../src/executor/prepare.ts";
import type { ExecutorWords } from "../../src/executor/words.ts";
import type { ShellName } from "../../src/shell.ts";
import { handingOver } from "../common/hand-over.ts";
import { createOutlook } from "../common/outlook.ts";
import { jobOverSsh, type OverSshOptions, type SshTable, sshComplaint, sshSettings } from "../ssh/over-ssh.ts";
import { type BaseChoice, chooseBase } from "./choose.ts";
import type { Condition, Hypervisor, Machine } from "./hypervisor.ts";
import { shortHash } from "./kept.ts";
import { LEAVE_MS, type MachineOptions, type OpenMachine, openMachine } from "./machine.ts";
import { createPlaces, within } from "./places.ts";
import { recoverJob, sweepUnused } from "./recovery.ts";

export const SHELLS = ["bash", "sh", "pwsh"] as const satisfies readonly ShellName[];

/** What the entry says of its machines. */
export interface MachineSettings extends BaseChoice {
  /** Each job gets a new copy, which is removed after the job. */
  readonly disableSnapshots: boolean;
  readonly bootMs: number;
  readonly timeServer?: string | undefined;
  readonly ssh: SshTable;
}

/** Each look starts a program. */
const LOOKS = { freshMs: 300_000, staleMs: 600_000, againMs: 30_000, limitMs: 20_000 };
const DAY_MS = 24 * 3600_000;
const CONDITION_MS = 10_000;
const LOCATION = { at: "guests of this machine" } as const;

/** What [runners.ssh] lacks, or has too much, for machines that are this host's guests. */
export function loginComplaint(ssh: SshTable): string | null {
  if (ssh.jump !== undefined) {
    return "[runners.ssh.jump] leads to other hosts, and a virtual machine of this host is reached directly. Remove it";
  }
  return sshComplaint(ssh);
}

/**
 * Jobs in copies of a virtual machine on this host.
 * @param settings `null`: the entry is gone, and only what its jobs have left is looked after
 */
export function createMachineExecutor(
  { name, title }: Pick<ExecutorWords, "name" | "title">,
  hypervisor: Hypervisor,
  settings: MachineSettings | null,
  deps: ExecutorDeps,
): Executor {
  const { log, entry, host } = deps;
  const { keepDir, scratch, working, env } = host;
  const places = createPlaces({ keepDir, scratch });
  const recovery = { hypervisor, places, keepDir, log };
  const closing = new AbortController();
  let sweeping: Promise<void> = Promise.resolve();
  let sweptAtMs = Number.NEGATIVE_INFINITY;
  let version: Promise<void> | null = null;

  const sayVersion = async (signal: AbortSignal): Promise<void> => {
    log.info(`${title} runs the jobs of an entry`, { version: await hypervisor.version(signal) });
  };

  const prepare = async (
    wanted: MachineSettings,
    request: PrepareRequest,
    notes: Notes,
    signal: AbortSignal,
  ): Promise<Environment> => {
    // Asked for again after a failure: somebody may have installed the program meanwhile.
    version ??= sayVersion(signal).catch((error: unknown) => {
      version = null;
      throw error;
    });
    await version;
    if (performance.now() - sweptAtMs > DAY_MS) {
      sweptAtMs = performance.now();
      sweeping = sweepUnused(recovery, closing.signal).catch(() => {});
    }
    const baseName = chooseBase(wanted, request, notes);
    const ssh = sshSettings(wanted.ssh, { workingDirectory: working, environment: env }, { host: "" });
    const ephemeral = entry.ephemeral ?? false;
    const options: MachineOptions = {
      hypervisor,
      places,
      host,
      log,
      ssh,
      bootMs: wanted.bootMs,
      timeServer: wanted.timeServer,
      keeps: !wanted.disableSnapshots && !ephemeral,
    };
    if (ssh.hostKeys.any && ssh.hostKeys.fingerprints.length === 0) {
      notes.print("The host key of the virtual machine is not checked (disable_strict_host_key_checking)", "warning");
    }
    const opened = await openMachine(options, { request, baseName }, notes, signal);
    try {
      return await environmentIn(opened, request, notes, signal);
    } catch (error) {
      opened.login.connection.close();
      await opened.leave().catch((problem: unknown) => {
        log.error("cannot let a virtual machine go", { problem: describeError(problem) });
      });
      throw error;
    }
  };

  const environmentIn = async (
    opened: OpenMachine,
    request: PrepareRequest,
    notes: Notes,
    signal: AbortSignal,
  ): Promise<Environment> => {
    const { machine, base, login } = opened;
    const shown = `virtual machine ${machine.name}`;
    const over: OverSshOptions = {
      notes,
      deps,
      request,
      ephemeral: false,
      host: shown,
      location: LOCATION,
      without: (shell) => `The virtual machine "${base.name}" has no ${shell}. Install it there`,
      connection: login.connection,
      // What is off is not tried again: nobody answers at its address, and an attempt may take a minute.
      connect: async (until) => {
        await mustRun(opened);
        try {
          return await login.connect(until);
        } catch (error) {
          until.throwIfAborted();
          await mustRun(opened);
          throw error;
        }
      },
      ready: async ({ tools }) => {
        if (tools.programs.has("git")) return;
        notes.print(
          `The virtual machine "${base.name}" has no git, or the profiles of its account do not name where: without it there are no sources`,
          "warning",
        );
      },
      cleanUp: async () => {},
    };
    const { environment, close } = await jobOverSsh(over, signal);
    const { runnerId, job } = request;
    const number = await places
      .take(`${name}-${runnerId}-${shortHash(job.projectId)}`, signal)
      .catch((error: unknown) => {
        close();
        throw error;
      });
    let leaving: Promise<void> | null = null;
    return {
      ...environment,
      host: shown,
      projectSlot: number.number,
      destroyMs: LEAVE_MS,
      run: async (script, output, until) => {
        try {
          return await environment.run(script, output, until);
        } catch (error) {
          if (until.aborted || !(error instanceof SystemFailure)) throw error;
          throw await withCondition(error, opened);
        }
      },
      // There is no file to remove: all files go when the machine is reset or removed.
      destroy: async () => {
        leaving ??= (async () => {
          close();
          const gone = opened.leave();
          await number.leave(gone);
          await gone;
        })();
        await leaving;
      },
    };
  };

  /** If the machine itself has gone, that is the cause, and the lost connection says little. */
  const withCondition = async (error: SystemFailure, { machine }: OpenMachine): Promise<SystemFailure> => {
    const condition = await conditionOf(machine);
    if (condition === null || condition.is === "running") return error;
    const how = condition.is === "absent" ? "is not there any more" : `is ${condition.how}`;
    return new SystemFailure(
      `The virtual machine "${machine.name}" ${how}, in mid-job. See in ${title}'s log why: ${describeError(error)}`,
      { cause: error, retry: error.retry, reason: error.reason },
    );
  };

  /** @throws {SystemFailure} it does not run any more */
  const mustRun = async ({ machine }: OpenMachine): Promise<void> => {
    const condition = await conditionOf(machine);
    if (condition === null || condition.is === "running" || condition.is === "changing") return;
    throw new SystemFailure("the connection to it is lost", { reason: "runner_external_dependency_failure" });
  };

  /** `null`: nobody can tell. */
  const conditionOf = async (machine: Machine): Promise<Condition | null> =>
    await within(CONDITION_MS, "looking", (until) => hypervisor.condition(machine, until)).catch(() => null);

  const outlook = createOutlook({
    ...LOOKS,
    look: async (signal) => void (await hypervisor.version(signal)),
  });

  return handingOver({
    ready: outlook.ready,
    name,
    title,
    features: {
      variables: true,
      image: (settings?.allowedImages.length ?? 0) > 0,
      services: false,
      shared: false,
      terminal: true,
    },
    shell: entry.shell ?? "bash",
    location: LOCATION,
    prepare: async (request, notes, signal) => {
      if (settings === null) throw new Error("an executor without its tables prepares nothing");
      try {
        return await prepare(settings, request, notes, signal);
      } catch (error) {
        outlook.doubt();
        throw error;
      }
    },
    diagnose: async (_, signal) => {
      const found = `${title} ${await hypervisor.version(signal)}`;
      const name = settings?.baseName ?? "";
      // A name with variables is one machine for each job.
      if (name === "" || name.includes("$")) return { state: found };
      const { source } = await hypervisor.findBase(name, signal);
      return {
        state: `${found}, the virtual machine "${name}" ${source === null ? "is there" : `with ${source.name}`}`,
      };
    },
    recover: async (jobKey, notes, signal) => await recoverJob(recovery, { jobKey, notes }, signal),
    close: async () => {
      closing.abort(new Error("the executor is closed"));
      await sweeping;
    },
  });
}
