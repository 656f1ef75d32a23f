import { ScriptFailure } from "../../errors.ts";
import type { Argv, Op, Test } from "../../shell.ts";
import type { Job, Trust } from "../job.ts";
import type { GitSettings } from "../plan/settings.ts";
import { userScript } from "../plan/user-script.ts";
import { not, succeeds, when } from "../plan/when.ts";
import { checkOutAnew } from "./check-out.ts";
import { cloneOr } from "./clone.ts";
import { type GitAccess, gitAccess, PLAIN_LINE_ENDS, quote } from "./credentials.ts";
import { bringsWholeHistory, fetchRefs } from "./fetch-refs.ts";
import { ALL_BRANCHES, isCommitId, refOf } from "./refs.ts";
import { type Repository, repositoryOf } from "./repository.ts";
import { mirroredOrigins, sshRewrites } from "./rewrites.ts";
import { getSubmodules } from "./submodules.ts";
import { disarm } from "./working-copy.ts";

export interface SourcesRequest {
  readonly job: Job;
  readonly root: string;
  readonly tmpDir: string;
  readonly git: GitSettings;
  readonly trust: Trust;
  /** Files get the line ends of the commit, or those that its attributes name, whatever the account's settings are. */
  readonly plainLineEnds: boolean;
  /** What git says to the server that it is. */
  readonly userAgent: string;
  /** A directory with what a fetch of all branches and tags would bring; `undefined`: there is none. */
  readonly template: string | undefined;
  /** `clone_url` of the entry; empty where the received address is used. */
  readonly cloneUrl: string;
  /** `url` of the entry, as far as it is known. */
  readonly serverUrl?: URL | undefined;
  readonly sslNoVerify: boolean;
  readonly coordinatorOrigin: string;
  /** Scripts of the operator and the author around it. */
  readonly before: readonly string[];
  readonly after: readonly string[];
  /** Entries of several lines are shown whole, folded. */
  readonly folded?: boolean;
  /** Value of a variable of the job. */
  get(key: string): string | undefined;
}

/** Instructions that bring a job's commit into `root`. */
export interface SourcesPlan {
  readonly ops: readonly Op[];
  /** To be run once if `ops` failed over what an earlier job had left: removes that and starts anew. Otherwise `null`. */
  readonly anew: readonly Op[] | null;
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

/** The runner's own git in `root`, before it is called. */
export interface Opened {
  readonly sha: string;
  readonly repository: Repository;
  readonly access: GitAccess;
  call(...args: string[]): Argv;
  /** Goes to `root`. */
  readonly enter: readonly Op[];
  /** Writes down how git is to behave, over what an earlier job or this one has left. */
  readonly config: Op;
}

/** @throws {ScriptFailure} the job names no commit or no repository that could be used */
export function openRepository(request: SourcesRequest): Opened {
  const { job, root, tmpDir, git, cloneUrl, serverUrl, plainLineEnds, sslNoVerify, coordinatorOrigin, get } = request;
  const sha = job.git.sha.trim().toLowerCase();
  if (!isCommitId(sha, job.git.objectFormat)) {
    const digits = job.git.objectFormat === "sha256" ? 64 : 40;
    const found = sha === "" ? "is missing" : `is ${JSON.stringify(sha.slice(0, 80))}`;
    throw new ScriptFailure(
      `The commit of this job (git_info.sha) ${found}, expected are ${digits} hexadecimal digits`,
    );
  }
  const repository = repositoryOf(job, cloneUrl, get);
  const { submodules } = git;
  const access = gitAccess({
    repository,
    tmpDir,
    submodules,
    plainLineEnds,
    userAgent: request.userAgent,
    sslNoVerify,
    bundleUris: git.bundleUris === true,
    correlationId: git.correlates ? job.correlationId : undefined,
    proactiveAuth: git.proactiveAuth === true,
    sshRewrites: submodules.forceHttps ? sshRewrites({ job, repository, cloneUrl, serverUrl, get }) : [],
    mirrored: mirroredOrigins(job, repository, cloneUrl),
    coordinatorOrigin,
    serverTls: job.serverTls,
  });
  return {
    sha,
    repository,
    access,
    call: (...args) => ["git", "-c", `include.path=${access.runnerConfig}`, ...args],
    enter: [{ op: "cd", path: root }, ...access.ops],
    config: { op: "write", path: `${root}/.git/config`, content: repositoryConfig(request, repository, access) },
  };
}

function prepareCheckout(request: SourcesRequest): Checkout {
  const { job, root, git, plainLineEnds } = request;
  const { submodules } = git;
  const { sha, repository, access, call, enter, config } = openRepository(request);
  const run = (...args: string[]): Op => ({ op: "run", argv: call(...args) });
  const tidy = isTidyingUp(job.id);
  const init = run("init", "--quiet", "--template=");
  const ref = refOf(job.git);
  const fetch = fetchRefs({ info: job.git, git, ref, sha, tidy, call });
  const template = templateOf(request);
  // A commit that the copy lacks is fetched when it cannot be checked out.
  const bring: readonly Op[] =
    template === undefined
      ? cloneOr([config, init, ...fetch.ops], {
          git,
          ref,
          repository,
          authorConfig: access.authorConfig,
          plainLineEnds,
          call,
        })
      : [config, run("init", "--quiet", `--template=${template}`)];
  // What it would find out is the same as ever, but where names of files know no case or have two spellings.
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
          ...lfs(git, reused, call),
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
      config,
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

/** The address holds no secret; what opens it is included from a file that is gone when the job is. */
function repositoryConfig(
  { job, plainLineEnds }: SourcesRequest,
  repository: Repository,
  { authorConfig }: GitAccess,
): string {
  const sha256 = job.git.objectFormat === "sha256";
  const lineEnds = plainLineEnds ? PLAIN_LINE_ENDS.map((line) => `${line}\n`).join("") : "";
  const core = `[core]\n\trepositoryformatversion = ${sha256 ? 1 : 0}\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n${lineEnds}`;
  const extensions = sha256 ? "[extensions]\n\tobjectformat = sha256\n" : "";
  const include = authorConfig === null ? "" : `[include]\n\tpath = ${quote(authorConfig)}\n`;
  return `${core}${extensions}[remote "origin"]\n\turl = ${quote(repository.url)}\n\tfetch = ${ALL_BRANCHES}\n[gc]\n\tautoDetach = false\n${include}`;
}

/** Does `git clean` take all that is not of the commit? */
export function isThorough(flags: readonly string[] | null): boolean {
  return flags?.join(" ") === "-ffdx";
}

function lfs(git: GitSettings, reused: boolean, call: (...args: string[]) => Argv): Op[] {
  if (!git.lfs) return [];
  const usesLfs = succeeds(call("grep", "-q", "filter=lfs", "--", ".gitattributes", "*/.gitattributes"));
  // Files that are there are taken by their names: `fsck` puts aside what is not what its name says.
  const check = when(succeeds(call("lfs", "fsck")), []);
  // Without its filters in git's settings, which not every package brings, it would leave the pointers as they are.
  const install = when(succeeds(call("lfs", "install", "--local", "--skip-repo")), []);
  const pull: Op[] = [
    install,
    ...(reused ? [check] : []),
    { op: "unset", name: "GIT_LFS_SKIP_SMUDGE" },
    { op: "run", argv: call("lfs", "pull") },
  ];
  const warning = "Files of this repository are in Git LFS, which is not installed here: they stay pointers";
  const without: Op = { op: "print", text: warning, tone: "warning" };
  return [when({ test: "program", name: "git-lfs" }, [when(usesLfs, pull)], [when(usesLfs, [without])])];
}
