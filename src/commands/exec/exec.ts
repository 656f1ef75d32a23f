import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { findJob } from "../../local/pipeline/needs.ts";
import { createGit, type Git } from "../../local/sources/git.ts";
import { refOf, takeSnapshot } from "../../local/sources/snapshot.ts";
import { findWorkingTree } from "../../local/sources/working-tree.ts";
import type { CommandContext } from "../context.ts";
import { type FlagValues, textOf } from "../register/runner-flags.ts";
import type { ExecEngine, Run, Work } from "./engine.ts";
import { refuseGitlabFlags } from "./file/alloy.ts";
import { type ProjectFile, readProjectFile, understand } from "./file/file.ts";
import { loadGitlab } from "./file/gitlab.ts";
import { showGitlab } from "./file/gitlab-show.ts";
import { privateVariables } from "./file/private.ts";
import { openPlaces, placesOfRun } from "./here/places.ts";
import { runHere } from "./here/run-here.ts";
import { buildsElsewhere, removeRun, startSweep } from "./here/sweep.ts";
import { sayNotes } from "./notes.ts";
import { readExecOptions } from "./options.ts";
import { understandPeer } from "./peer/understand.ts";
import { peerVariables } from "./peer/variables.ts";
import { listJobs } from "./report.ts";
import { listenForCancel } from "./signals.ts";

/**
 * `alloy-runner exec`: the pipeline of the working directory, or some of its jobs, on this machine: a coordinator on
 * loopback, a snapshot of the working tree that jobs fetch, and a runner like that of `run`.
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
    const { options, executor } = understand(
      { ...given, variables: [...peer.variables, ...kept.variables, ...given.variables] },
      jobNamesIn(project),
      [...executors.names, ...executors.absent.names],
    );
    const work: Work =
      project.kind === "alloy"
        ? { kind: "alloy", file: project.file, notes: project.notes }
        : { kind: "gitlab", ...(await loadGitlab(project.file, tree, options, context, signal)) };
    return await withRun({ options, executor, tree, work, values, context, engine }, signal);
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

async function withRun(run: Run, signal: AbortSignal): Promise<number> {
  const { options, context, work, tree, engine } = run;
  if (work.kind === "gitlab") {
    if (options.mode === "list" || options.mode === "print") return await showGitlab(work, options, context);
    const { refusal } = work.loaded.plan;
    if (refusal !== null) {
      sayNotes(work.notes, context);
      context.say(`no pipeline: ${refusal}`);
      return 0;
    }
  }
  const notes = [...work.notes, ...(work.kind === "alloy" ? work.file.warnings : []), ...tree.notes];
  if (work.kind === "alloy") {
    const { file } = work;
    refuseGitlabFlags(options, file);
    for (const name of options.jobs) findJob(name, file);
    if (options.mode === "list") {
      const ref = refOf(tree, options.ref, notes);
      sayNotes(notes, context);
      for (const line of listJobs(file, ref)) context.print(line);
      return 0;
    }
  }
  const places = await openPlaces(context.env);
  const sweep = options.mode === "run" ? startSweep(places, engine.bury, context) : undefined;
  const asked = textOf(run.values, "builds-dir");
  const buildsDir = asked === undefined ? undefined : buildsElsewhere(places.runDir, resolve(context.cwd, asked));
  try {
    const { sourcesDir } = placesOfRun(places.runDir);
    const servedAs = `local/${tree.name}.git`;
    const { committed, ref } = options;
    const snapshot = await takeSnapshot({ tree, into: sourcesDir, committed, ref, servedAs, env: context.env }, signal);
    notes.push(...snapshot.notes);
    await sweep?.soon(signal);
    return await runHere(run, { ...places, buildsDir }, snapshot, notes, signal);
  } finally {
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
