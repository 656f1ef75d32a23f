import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { Stop } from "../../errors.ts";
import { createGit, type Git } from "../../local/sources/git.ts";
import { takeSnapshot } from "../../local/sources/snapshot.ts";
import { findWorkingTree, type WorkingTree } from "../../local/sources/working-tree.ts";
import type { CommandContext } from "../context.ts";
import { type FlagValues, textOf } from "../register/runner-flags.ts";
import type { ExecEngine, Run, Work } from "./engine.ts";
import { loadAlloy } from "./file/alloy.ts";
import { type ProjectFile, readProjectFile, understand } from "./file/file.ts";
import { loadGitlab } from "./file/gitlab.ts";
import { privateVariables } from "./file/private.ts";
import { showPlan } from "./file/show.ts";
import { openPlaces, placesOfRun } from "./here/places.ts";
import { runHere } from "./here/run-here.ts";
import { buildsElsewhere, removeRun, startSweep } from "./here/sweep.ts";
import { sayNotes } from "./notes.ts";
import { readExecOptions } from "./options.ts";
import { peerInputs } from "./peer/inputs.ts";
import { understandPeer } from "./peer/understand.ts";
import { peerVariables } from "./peer/variables.ts";
import { listenForCancel } from "./signals.ts";

/**
 * `alloy-runner exec`: the pipeline of the working directory, or some of its jobs, on this machine: a coordinator in
 * this process, a snapshot of the working tree that jobs fetch, and a runner like that of `run`.
 * @returns the exit status: 0, that of the job that failed first, or 128 and the number of the signal that canceled it
 * @throws {CommandError} it cannot be started; the message says what to do
 */
export async function execCommand(
  words: readonly string[],
  typed: FlagValues,
  outside: CommandContext,
  engine: ExecEngine,
): Promise<number> {
  const { values, cwd, home, notes: peerNotes } = await understandPeer(typed, outside);
  const context = cwd === outside.cwd ? outside : { ...outside, cwd };
  sayNotes(peerNotes, context);
  const given = await readExecOptions(words, values, context, availableParallelism());
  using cancel = listenForCancel(context.say, context.signal);
  const { signal } = cancel;
  const gitIn = (dir: string): Git => createGit(dir, context.env, signal);
  const { catalog: executors } = context;
  const work = async (): Promise<number> => {
    const tree = await findWorkingTree(context.cwd, gitIn);
    const project = await readProjectFile(tree, given, context.cwd, gitIn);
    const kept = await privateVariables(tree, context.env, gitIn(tree.dir));
    sayNotes(kept.notes, context);
    const peer = await peerVariables(tree, gitIn(tree.dir), { home, variablesFile: textOf(values, "variables-file") });
    sayNotes(peer.notes, context);
    const offered = await peerInputs(tree, textOf(values, "inputs-file"));
    const { options, executor } = understand(
      {
        ...given,
        ...(offered === undefined ? {} : { offered }),
        variables: [...peer.variables, ...kept.variables, ...given.variables],
      },
      jobNamesIn(project),
      [...executors.names, ...executors.absent.names],
    );
    const load = async (): Promise<Work> =>
      project.kind === "alloy"
        ? loadAlloy(project.file, tree, options, project.notes)
        : await loadGitlab(project.file, tree, options, context, signal);
    const run = { options, executor, tree, values, context, engine };
    return options.mode === "list" || options.mode === "print"
      ? await showPlan(withNotesOf(tree, await load()), options, context)
      : await withGround(run, load, signal);
  };
  return await Promise.race([
    work().catch((error: unknown) => {
      if (signal.aborted) return cancel.status;
      // The reader of the output has gone, so the exit status is that of a program ended by SIGPIPE.
      if (error instanceof Error && "code" in error && error.code === "EPIPE") return 141;
      throw error;
    }),
    cancel.hurried,
  ]);
}

function withNotesOf(tree: WorkingTree, work: Work): Work {
  return work.dialect === "alloy" ? { ...work, notes: [...work.notes, ...tree.notes] } : work;
}

/** The sources are taken while the file is read, which needs other answers of git. */
async function withGround(run: Omit<Run, "work">, load: () => Promise<Work>, signal: AbortSignal): Promise<number> {
  const { options, context, tree, engine } = run;
  const places = await openPlaces(context.env);
  const sweep = options.mode === "run" ? startSweep(places, engine.bury, context) : undefined;
  const asked = textOf(run.values, "builds-dir");
  const buildsDir = asked === undefined ? undefined : buildsElsewhere(places.runDir, resolve(context.cwd, asked));
  const over = new AbortController();
  const taking = takeSnapshot(
    {
      tree,
      into: placesOfRun(places.runDir).sourcesDir,
      committed: options.committed,
      ref: options.ref,
      servedAs: `local/${tree.name}.git`,
      env: context.env,
    },
    AbortSignal.any([signal, over.signal]),
  );
  // A failure is met below, behind what may be wrong with the file.
  taking.catch(() => undefined);
  try {
    const work = await load();
    const { refusal } = work.loaded.plan;
    if (refusal !== null) {
      sayNotes(work.notes, context);
      if (work.dialect === "alloy") context.print(`${refusal}.`);
      else context.say(`no pipeline: ${refusal}`);
      return 0;
    }
    const snapshot = await taking;
    await sweep?.soon(signal);
    const notes = [...work.notes, ...tree.notes, ...snapshot.notes];
    return await runHere({ ...run, work }, { ...places, buildsDir }, snapshot, notes, signal);
  } finally {
    over.abort(new Stop("shutting_down", "exec ends"));
    await taking.catch(() => undefined);
    await removeRun(places.runDir, { buildsDir });
    sayNotes((await sweep?.end()) ?? [], context);
  }
}

function jobNamesIn(project: ProjectFile): readonly string[] {
  if (project.kind === "alloy") return project.file.jobs.map(({ name }) => name);
  // The file is searched before it is read as YAML, because the meaning of the other words depends on which of them are
  // jobs.
  return [...project.file.text.matchAll(/^([\w-]+):/gm)].flatMap((match) => match[1] ?? []);
}
