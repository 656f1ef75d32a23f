import type { Argv, Op } from "../../shell.ts";
import type { GitInfo } from "../job.ts";
import type { GitSettings } from "../plan/settings.ts";
import { succeeds, when } from "../plan/when.ts";
import { ALL_BRANCHES, ALL_PULL_REQUESTS, ALL_TAGS, type Ref, refOf, refspecOf, soundRefspecs } from "./refs.ts";

export interface FetchRequest {
  readonly info: GitInfo;
  readonly git: GitSettings;
  readonly ref: Ref;
  readonly sha: string;
  /** Let git tidy up the repository afterwards, should it find that worth while. */
  readonly tidy: boolean;
  /** git with these arguments, as the runner calls it. */
  call(...args: string[]): Argv;
}

/** Flags that change nothing of what a fetch into an empty repository brings. */
const NEUTRAL_FLAGS: readonly string[] = ["--prune", "--quiet", "--update-shallow"];

/** Whether a job asks for all branches and tags with their history, and for nothing else. */
export function bringsWholeHistory(info: GitInfo, { depth, fetchFlags }: GitSettings): boolean {
  const received = soundRefspecs(info.refspecs);
  const usual = received.length === 0 ? refOf(info).kind !== "other" : isUsual(received);
  return depth === 0 && usual && fetchFlags.every((flag) => NEUTRAL_FLAGS.includes(flag));
}

function isUsual(refspecs: readonly string[]): boolean {
  return refspecs.length === 2 && refspecs.includes(ALL_BRANCHES) && refspecs.includes(ALL_TAGS);
}

/** No look at whether there is something to tidy up: one process less. Versions before 2.29 know the second only. */
const UNTIDY = ["-c", "maintenance.auto=false", "-c", "gc.auto=0"];

/** How a commit comes. */
export interface Fetch {
  readonly ops: readonly Op[];
  /** To be run when the commit cannot be checked out then: brings it by another way, or fails and says that it is nowhere. */
  readonly otherwise: readonly Op[];
}

/**
 * Whole history: all branches and tags, which scripts compare with. Shallow: the commit alone, kept under the ref's name.
 * The commit may be nowhere among the refs any more (force-pushed, or a pull request from a fork): servers give it by its
 * name, or else below `refs/pull/`.
 */
export function fetchRefs({ info, git, ref, sha, tidy, call }: FetchRequest): Fetch {
  const fetch = (options: readonly string[], refspecs: readonly string[]): Argv =>
    call(
      ...(tidy ? [] : UNTIDY),
      "fetch",
      ...options,
      "--no-recurse-submodules",
      ...git.fetchFlags,
      "origin",
      ...refspecs,
    );
  const run = (options: readonly string[], refspecs: readonly string[]): Op => ({
    op: "run",
    argv: fetch(options, refspecs),
  });
  const orElse = (argv: Argv, otherwise: readonly Op[]): Op => when(succeeds(argv), [], otherwise);
  const seeCommit = call("cat-file", "-e", `${sha}^{commit}`);
  const unlessThere = (then: readonly Op[]): Op => orElse(seeCommit, then);

  const missing: readonly Op[] = [
    { op: "print", text: `Commit ${sha} is not in the repository`, tone: "error" },
    { op: "run", argv: seeCommit },
  ];
  const byName: Op = unlessThere([
    ref.kind === "fork" ? orElse(fetch([], [sha]), [run([], [ALL_PULL_REQUESTS])]) : run([], [sha]),
    orElse(seeCommit, missing),
  ]);

  const refspec = refspecOf(ref);
  const received = soundRefspecs(info.refspecs);
  const special = ref.kind === "other" && refspec !== null ? [refspec] : [];
  const everything = received.length > 0 ? received : [ALL_BRANCHES, ALL_TAGS, ...special];
  const wholeHistory: readonly Op[] = [
    when({ test: "file", path: ".git/shallow" }, [run(["--unshallow"], everything)], [run([], everything)]),
  ];
  if (git.depth === 0) return { ops: wholeHistory, otherwise: [byName] };

  const depth = ["--depth", String(git.depth)];
  const deeper = [unlessThere([orElse(fetch(depth, [sha]), [...wholeHistory, byName])])];
  if (received.length > 0) return { ops: [run(depth, received)], otherwise: deeper };
  // A tag comes as it is, with its message. A branch may have moved on: its name here is given to the job's commit.
  const target =
    refspec === null ? sha : ref.kind === "branch" ? `+${sha}:${refspec.slice(refspec.indexOf(":") + 1)}` : refspec;
  // Servers without protocol 2 may refuse a commit by its name. If there is no server, the first message is the right one.
  const answers = succeeds(call("ls-remote", "--quiet", "origin", "HEAD"));
  const shallow = orElse(fetch(depth, [target]), [
    when(answers, [...wholeHistory, ...(git.checkout ? [byName] : [])], [run(depth, [target])]),
  ]);
  return { ops: [shallow], otherwise: deeper };
}
