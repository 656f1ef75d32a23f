import { dirname, isAbsolute, join, resolve } from "node:path";
import { SystemFailure } from "../../src/errors.ts";
import type { ExecutorDeps } from "../../src/executor/deps.ts";
import { defineExecutor, type Executor } from "../../src/executor/executor.ts";
import type { Note } from "../../src/executor/prepare.ts";
import { followTrusted } from "../../src/files/trusted-path.ts";
import type { ShellName } from "../../src/shell.ts";
import type { AttendantTools } from "../common/durable/attend.ts";
import { handingOver } from "../common/hand-over.ts";
import { createOutlook } from "../common/outlook.ts";
import { homeDirectory } from "../common/places/home.ts";
import { handleOf, readHandle, retake } from "./adopt.ts";
import { clearTmpDir, createEnvironment } from "./environment.ts";
import { findAttendance, outlivesRunner } from "./launch/attendance.ts";
import { findProgram, type Launch, prepareLaunch } from "./launch/launch.ts";
import { findOwnProgram } from "./launch/own-program.ts";
import { createProfile, type Profile } from "./launch/profile.ts";
import { mustBeWritable, openBuildsDir } from "./places/builds-dir.ts";
import { inChosenRoot } from "./places/chosen.ts";
import { openProcessTable } from "./places/host-claims.ts";
import { createKeptBuilds } from "./places/kept-builds.ts";
import { lockDirectories } from "./places/lock-directories.ts";
import { createDirectoryLocks } from "./places/locks.ts";
import { MEMORY, openRunRooms, type RunRooms, runPlaces } from "./places/run-rooms.ts";
import { createSlots } from "./places/slots.ts";
import { type Cgroups, findCgroups, openCgroups, removeGroups } from "./processes/cgroup.ts";
import { createJobMeter } from "./processes/job-meter.ts";
import { ATTENDANTS, type JobNote, MARK, noteSchema, recoverJob } from "./recover.ts";
import { createPipePool, type PipePool } from "./script/fifo.ts";
import type { ScriptHost } from "./script/script.ts";
import { hasTerminals } from "./script/terminal.ts";
import { createWindowsShell, WINDOWS_SHELLS } from "./windows/executor.ts";
import { words } from "./words.ts";

const ON_WINDOWS = process.platform === "win32";
const SHELLS: readonly ShellName[] = ON_WINDOWS ? WINDOWS_SHELLS : ["bash", "sh", "pwsh"];

function notDurable(missing: readonly string[]): string {
  return `A restart of the runner ends this job: ${missing.join(" and ")} cannot be found on this machine`;
}

/** What this machine offers; found out when the first job comes. */
interface Means {
  readonly launch: Launch;
  readonly profile: Profile;
  readonly cgroups: Cgroups | null;
}

/** A hundred entries ask, and a disk seldom fails. */
const LOOKS = { freshMs: 10_000, staleMs: 30_000, limitMs: 5000 };

/** Names of control groups of one job begin with this. The dot ends the key: no key begins another. */
function groupPrefix(jobKey: string): string {
  return `alloy-${jobKey}.`;
}

/** Scripts, pipes and archives lie there on their way to another account, as do the journal and what it says is to be removed. */
async function mustBeRootsOwn(scratchDir: string, user: string): Promise<void> {
  const { doubt } = await followTrusted(scratchDir);
  if (doubt === undefined) return;
  throw new SystemFailure(
    `Cannot run jobs as user "${user}" with this state_dir: ${doubt}; set state_dir to a directory that only root can change`,
    { reason: "runner_configuration_error" },
  );
}

function createShellExecutor(deps: ExecutorDeps): Executor {
  const { log, entry, host: around } = deps;
  const { user, inheritEnvironment, ownProgram } = deps.shell ?? { user: undefined, inheritEnvironment: [] };
  const { killGraceMs, killLeftovers, ephemeral = false, durable = false } = entry;
  const { env, scratch: scratchDir } = around;
  const profiled = findProgram("bash", env.PATH ?? "") === undefined ? "sh" : "bash";
  const shell = entry.shell ?? profiled;
  const buildsDir = resolve(around.working, entry.buildsDir ?? "builds");
  const table = openProcessTable();
  const locks = createDirectoryLocks(lockDirectories(scratchDir, ephemeral), table);
  const slots = createSlots(locks);
  const kept = createKeptBuilds(around.keepDir);

  const closing = new AbortController();

  const launchAs = async (account: string | undefined): Promise<Launch> =>
    await prepareLaunch({
      user: account,
      inherit: inheritEnvironment,
      environment: env,
      home: homeDirectory(),
    });
  const find = async (): Promise<Means> => {
    const [launch, cgroups] = await Promise.all([launchAs(user), findCgroups()]);
    if (launch.account !== null) await mustBeRootsOwn(scratchDir, launch.account.name);
    const isPwsh = shell === "pwsh";
    const login = launch.command([isPwsh ? profiled : shell, "-l"]);
    const profile = createProfile({ login, launch, table, cgroups, markName: MARK, signal: closing.signal });
    const { PATH: more } = await profile.current();
    // PowerShell tells its version in a fifth of the time that it takes to run a command.
    await launch.check(isPwsh ? [shell, "-Version"] : [shell, "-c", "exit 0"], more);
    return { launch, profile, cgroups };
  };
  // Asked for anew after a failure: an account may be made or get a shell while the runner runs.
  let finding: Promise<Means> | null = null;
  const means = (): Promise<Means> => {
    finding ??= find().catch((error: unknown) => {
      finding = null;
      throw error;
    });
    return finding;
  };
  let attended: ReturnType<typeof findAttendance> | null = null;
  /** What is missing is looked for again. */
  const attendanceFor = ({ environment }: Launch): ReturnType<typeof findAttendance> => {
    if (attended === null || "missing" in attended) attended = findAttendance(environment.PATH ?? "");
    return attended;
  };
  let pipes: PipePool | null = null;
  let rooms: RunRooms | null = null;
  let groups = 0;
  const shells = new Map<number, string>();

  const outlook = createOutlook({ ...LOOKS, look: async () => await mustBeWritable(buildsDir) });

  const hostFor = (jobKey: string, { launch, profile, cgroups }: Means, tools: AttendantTools | null): ScriptHost => {
    const { keepDir: stateDir, hasJob } = around;
    const onForgotten = (key: string): void => removeGroups(cgroups, groupPrefix(key));
    if (tools !== null)
      rooms ??= openRunRooms({ stateDir, memory: MEMORY, owner: launch.account, hasJob, onForgotten });
    pipes ??= createPipePool(scratchDir, launch.account);
    if (tools === null) pipes.warm();
    const attendants = `${groupPrefix(jobKey)}${ATTENDANTS}`;
    const mark = `${MARK}=${jobKey}`;
    return {
      meter: createJobMeter(table, cgroups !== null),
      launch,
      profile,
      pipes,
      table,
      cgroups,
      scratchDir,
      ownProgram: ownProgram ?? findOwnProgram(process.execPath, process.argv[1]),
      mark,
      groupPrefix: groupPrefix(jobKey),
      nextGroup: () => groups++,
      killLeftovers,
      killGraceMs,
      shells,
      durable:
        tools !== null && rooms !== null
          ? {
              tools,
              table,
              mark,
              attendants: cgroups?.find(attendants) ?? cgroups?.create(attendants) ?? null,
              sessions: { add: (pid) => void shells.set(pid, mark), delete: (pid) => shells.delete(pid) },
              rooms,
              jobKey,
            }
          : null,
      keepsFiles: process.platform === "linux" && killLeftovers && !ephemeral,
    };
  };
  const roomsOf = (jobKey: string): string[] => runPlaces(around.keepDir, MEMORY).map((place) => join(place, jobKey));

  return handingOver({
    name: words.name,
    title: words.title,
    features: {
      variables: true,
      image: false,
      services: false,
      shared: true,
      ...(hasTerminals(env.PATH ?? "") ? { terminal: true } : {}),
    },
    shell,
    ready: outlook.ready,
    disks: () => [buildsDir],
    diagnose: async () => {
      // A relative one is below the directory of the runner's service, which is not that of whoever asks.
      if (entry.buildsDir !== undefined && isAbsolute(entry.buildsDir)) await mustBeWritable(buildsDir);
      const { launch } = await means();
      return { state: `${shell} runs as ${launch.account?.name ?? "the runner's own account"}` };
    },
    tidy: async (budgets, { dry }, signal) => {
      const { launch } = await means();
      return await kept.tidy({ buildsDir, budgets, dry, locks, launch }, signal);
    },
    prepare: async (request, notes, signal) => {
      const { job, jobKey, runnerId, projectPath, trust, endsWithRunner = false } = request;
      const found = await means();
      const { launch, cgroups } = found;
      const runnerDir = join(buildsDir, runnerId);
      await openBuildsDir(launch, runnerDir, signal);
      signal.throwIfAborted();

      const attendance = durable && !ephemeral && !endsWithRunner ? attendanceFor(launch) : null;
      if (attendance !== null && "missing" in attendance) notes.print(notDurable(attendance.missing), "warning");
      const tools = attendance !== null && "tools" in attendance ? attendance.tools : null;
      const host = hostFor(jobKey, found, tools);
      const ownRooms = tools === null ? [] : roomsOf(jobKey);
      const free = await slots.take({ runnerDir, projectPath, projectId: job.projectId, trust }, ownRooms);
      const slot = await inChosenRoot(free, buildsDir, request, (root) => locks.claim(root, ownRooms));
      if (!ephemeral) kept.used(free.places);
      try {
        const note = {
          kind: "shell-job" as const,
          tmpDir: slot.places.tmpDir,
          bootId: table.bootId,
          cgroups: cgroups?.base ?? null,
          group: groupPrefix(jobKey),
          user: launch.account?.name ?? null,
        };
        await request.remember(note);
        const above = dirname(slot.places.root);
        // Below `builds_dir`, which may be root's, the job's account gets a directory of its own for what it chose.
        if (slot !== free && above !== buildsDir) await openBuildsDir(launch, above, signal);
        await clearTmpDir(host, slot.places.tmpDir, signal);
        signal.throwIfAborted();
        const since = table.now();
        const environment = {
          ...createEnvironment({ host, shell, slot, buildsDir, since }),
          usage: host.meter.usage,
          ...(host.durable === null ? {} : { handle: handleOf(note, { free, slot, shell, buildsDir, since }) }),
        };
        if (ephemeral) return environment;
        return {
          ...environment,
          destroy: async (until) => {
            kept.used(free.places);
            await environment.destroy(until);
          },
        };
      } catch (error) {
        slot[Symbol.dispose]();
        throw error;
      }
    },
    adopt: async ({ jobKey }, handle) => {
      const found = await means();
      const { launch } = found;
      const known = readHandle(handle, { bootId: table.bootId, user: launch.account?.name ?? null });
      const attendance = attendanceFor(launch);
      if ("missing" in attendance) throw new SystemFailure(notDurable(attendance.missing));
      const cgroups = known.cgroups === null ? null : openCgroups(known.cgroups);
      const host = hostFor(jobKey, { ...found, cgroups }, attendance.tools);
      const { slot, free } = retake(slots, locks, known, roomsOf(jobKey));
      kept.used(free.places);
      const { since } = known;
      const environment = createEnvironment({ host, shell: known.shell, slot, buildsDir: known.buildsDir, since });
      return {
        ...environment,
        usage: host.meter.usage,
        handle,
        destroy: async (until) => {
          kept.used(free.places);
          await environment.destroy(until);
        },
      };
    },
    recover: async (jobKey, notes, signal) => {
      const recoverHost = {
        table,
        stateDir: around.keepDir,
        killGraceMs,
        launchAs: async (account: JobNote["user"]) =>
          await launchAs(account === undefined ? user : (account ?? undefined)),
      };
      const done: string[] = [];
      const left: string[] = [];
      for (const note of notes) {
        const known = noteSchema.safeParse(note);
        if (known.success) {
          const recovered = await recoverJob(recoverHost, jobKey, known.data, signal);
          done.push(...recovered.done);
          left.push(...recovered.left);
        } else if (note.kind !== "crash")
          log.warn("A note of a dead job is not one of the shell executor", { note: describeNote(note) });
      }
      return { done, left };
    },
    close: async () => {
      closing.abort();
      await finding?.then(({ profile }) => profile.settled()).catch(() => {});
      await pipes?.close();
      await rooms?.close();
      await kept.close().catch(() => {});
    },
  });
}

function describeNote(note: Note): string {
  return String(note.kind ?? "unknown");
}

export default defineExecutor({
  ...words,
  tables: [],
  shells: SHELLS,
  ...(process.platform === "linux" ? { canOutlive: "runner" } : {}),
  ...(process.platform === "linux" && outlivesRunner() ? { outlivesUnasked: true } : {}),
  create: (_tables, deps) => (ON_WINDOWS ? createWindowsShell(deps) : createShellExecutor(deps)),
});
