import type { Op, Test } from "../../shell.ts";
import { userScript } from "../plan/user-script.ts";
import { not, succeeds, when } from "../plan/when.ts";
import { checkOutAnew } from "./check-out.ts";
import { cloneOr } from "./clone.ts";
import { bringsWholeHistory, fetchRefs } from "./fetch-refs.ts";
import { lfsFiles } from "./lfs.ts";
import { openRepository } from "./open-repository.ts";
import { refOf } from "./refs.ts";
import type { SourcesRequest } from "./sources-request.ts";
import { getSubmodules } from "./submodules.ts";
import { disarm } from "./working-copy.ts";

/** Instructions that bring a job's commit into `root`. */
export interface SourcesPlan {
  readonly ops: readonly Op[];
  /** To be run once if `ops` failed over what an earlier job had left: removes that and starts anew. Otherwise `null`. */
  readonly anew: readonly Op[] | null;
  /** See `ScriptStage`. */
  readonly repeatable?: true;
}

/**
 * One way for all: `git init`, fetch what is needed, check the commit out, clean. Runs with a git of 2.17 or newer.
 * @throws {ScriptFailure} the job names no commit or no repository that could be used
 */
export function getSources(request: SourcesRequest): SourcesPlan {
  const { root, git, trust } = request;
  // Forks do not trust one another either: whoever made the last one could have prepared what is there.
  const isKept = trust.level !== "fork";
  if (git.strategy === "none" && isKept) {
    return {
      ops: [
        { op: "print", text: "Skipping Git repository setup", tone: "notice" },
        { op: "mkdir", path: root },
      ],
      anew: null,
      repeatable: true,
    };
  }
  if (git.strategy === "none" || git.strategy === "empty") {
    const ops: Op[] = [
      { op: "print", text: "Skipping Git repository setup and creating an empty directory", tone: "notice" },
      { op: "remove", path: root },
      { op: "mkdir", path: root },
    ];
    return { ops, anew: null };
  }
  const checkout = prepareCheckout(request);
  const wipe: Op = { op: "remove", path: root };
  // Where all is cleaned anyway, to copy is quicker than to look through what an earlier job has left.
  const copies = templateOf(request) !== undefined && git.checkout && isThorough(git.cleanFlags);
  if (git.strategy === "clone" || !isKept || copies)
    return { ops: [...checkout.before, wipe, ...checkout.fresh, ...checkout.after], anew: null };

  const marker = `${request.tmpDir}/.git-access/reused`;
  const isOld: Test = { test: "directory", path: `${root}/.git` };
  const wasThere: Test = { test: "file", path: marker };
  const ops: Op[] = [
    ...checkout.before,
    { op: "remove", path: marker },
    ...disarm(root, git.submodules.strategy !== "none"),
    when(isOld, [{ op: "write", path: marker, content: "" }, ...checkout.reused], [wipe, ...checkout.fresh]),
    ...checkout.after,
  ];
  const anew: Op[] = [
    // Nothing was there, so starting anew would fail in the same way.
    when(not(wasThere), [{ op: "exit", status: 1 }]),
    { op: "print", text: "The working copy of an earlier job cannot be used; starting anew", tone: "warning" },
    ...checkout.before,
    wipe,
    ...checkout.fresh,
    ...checkout.after,
  ];
  return { ops, anew };
}

interface Checkout {
  readonly before: readonly Op[];
  /** Instructions for a place where nothing is, and for one where a disarmed working copy is. */
  readonly fresh: readonly Op[];
  readonly reused: readonly Op[];
  readonly after: readonly Op[];
}

/** There on every macOS and nowhere else. */
const MACOS = "/System/Library/CoreServices";

/** Nobody is there to answer a question, and what git says is read by us when it fails. */
export const ENVIRONMENT: Readonly<Record<string, string>> = {
  GIT_TERMINAL_PROMPT: "0",
  GCM_INTERACTIVE: "Never",
  GIT_ASKPASS: "",
  SSH_ASKPASS: "",
  GIT_NO_REPLACE_OBJECTS: "1",
  GIT_LFS_SKIP_SMUDGE: "1",
  LANGUAGE: "en",
  GIT_DEFAULT_REF_FORMAT: "files",
};

function prepareCheckout(request: SourcesRequest): Checkout {
  const { job, root, git, plainLineEnds } = request;
  const { submodules } = git;
  const { sha, repository, access, call, enter, configure } = openRepository(request);
  const run = (...args: string[]): Op => ({ op: "run", argv: call(...args) });
  const tidy = isTidyingUp(job.id);
  const init = run("init", "--quiet", "--template=");
  const ref = refOf(job.git);
  const fetch = fetchRefs({ info: job.git, git, ref, sha, tidy, call });
  const template = templateOf(request);
  const copy = (from: string): Op => {
    const initialize = run("init", "--quiet", `--template=${from}`);
    const plain: Op = { op: "run", argv: ["cp", "-R", `${from}/.`, `${root}/.git`] };
    return isOnWindows(root) ? initialize : when({ test: "directory", path: MACOS }, [initialize], [plain]);
  };
  // A commit that the copy lacks is fetched when it cannot be checked out.
  const bring: readonly Op[] =
    template === undefined
      ? cloneOr([configure, init, ...fetch.ops], {
          git,
          ref,
          repository,
          authorConfig: access.authorConfig,
          plainLineEnds,
          call,
        })
      : [configure, copy(template)];
  // What it would find out is the same as ever, but where names of files know no case or have two spellings: so it is in a copy.
  const reinit = tidy || isOnWindows(root) ? init : when({ test: "directory", path: MACOS }, [init]);
  const clean: Op[] = git.cleanFlags === null ? [] : [run("clean", ...git.cleanFlags)];
  const named = ref.kind === "none" ? "" : ` as ${ref.name}`;
  const checkOutCommit = ["checkout", "--force", "--quiet", "--detach", sha, "--"];
  // Tried first, as the commit is nearly always there; to ask for it before would be one more process.
  const tryFirst = (args: readonly string[]): Op =>
    when(succeeds(call(...args)), [], [...fetch.otherwise, run(...args)]);
  const checkOut = (ops: readonly Op[], otherwise: readonly Op[] = []): readonly Op[] =>
    git.checkout
      ? [{ op: "print", text: `Checking out ${sha.slice(0, 8)}${named}...`, tone: "notice" }, ...ops]
      : [{ op: "print", text: "Skipping Git checkout", tone: "notice" }, ...otherwise];
  // What the last job's commit had and this one has not: where all is cleaned anyway, that needs no index.
  const indexOfBefore = when(succeeds(call("reset", "--mixed", "--quiet", "HEAD")), []);
  const removeOld = isThorough(git.cleanFlags) ? [] : [indexOfBefore, when(succeeds(call(...checkOutCommit)), [])];
  const nested = (reused: boolean): readonly Op[] =>
    git.checkout
      ? [
          ...getSubmodules({
            settings: submodules,
            root,
            reused,
            cleanFlags: git.cleanFlags,
            authorConfig: access.authorConfig,
            lfs: git.lfs,
            objectFormat: job.git.objectFormat,
            call,
          }),
          // Where the sources are copied from, nobody has such files.
          ...(template === undefined ? lfsFiles(git, reused, call) : []),
        ]
      : [];

  return {
    before: [
      ...Object.entries(ENVIRONMENT).map(([key, value]): Op => ({ op: "export", name: key, value })),
      // Also over what the host has for new repositories; versions of git that do not know the option ignore the variable.
      { op: "export", name: "GIT_DEFAULT_HASH", value: job.git.objectFormat },
      ...ceiling(root),
      ...userScript(request.before, request.folded === true ? "pre_clone_script" : null),
    ],
    fresh: [
      { op: "print", text: "Cloning repository...", tone: "notice" },
      { op: "mkdir", path: root },
      ...enter,
      ...bring,
      ...checkOut([tryFirst(checkOutCommit)]),
      ...nested(false),
    ],
    reused: [
      { op: "print", text: "Fetching changes...", tone: "notice" },
      ...enter,
      configure,
      reinit,
      ...fetch.ops,
      // Takes untracked files out of its way by itself: one clean-up afterwards is enough.
      ...checkOut(
        [
          ...removeOld,
          tryFirst(checkOutAnew(sha, job.git.objectFormat)),
          { op: "write", path: `${root}/.git/HEAD`, content: `${sha}\n` },
          ...clean,
        ],
        [indexOfBefore],
      ),
      ...nested(true),
    ],
    after:
      request.after.length === 0
        ? []
        : [
            { op: "cd", path: root },
            ...userScript(request.after, request.folded === true ? "post_clone_script" : null),
          ],
  };
}

function templateOf({ job, git, template }: SourcesRequest): string | undefined {
  return bringsWholeHistory(job.git, git) ? template : undefined;
}

function isOnWindows(path: string): boolean {
  return /^(?:[A-Za-z]:[\\/]|\\\\)/.test(path);
}

/** Where root has no usable repository git would take one further up for it. A list's separator would end the path. */
export function ceiling(root: string): Op[] {
  const windows = isOnWindows(root);
  if (root.includes(windows ? ";" : ":")) return [];
  const parent = (windows ? root.replaceAll("\\", "/") : root).replace(/\/[^/]*$/, "") || "/";
  return [{ op: "export", name: "GIT_CEILING_DIRECTORIES", value: parent }];
}

/** One job in 16 lets git look whether its working copy needs tidying up. */
function isTidyingUp(jobId: string): boolean {
  return Number(jobId.slice(-4)) % 16 === 0;
}

/** Does `git clean` take all that is not of the commit? */
export function isThorough(flags: readonly string[] | null): boolean {
  return flags?.join(" ") === "-ffdx";
}
