import { ScriptFailure } from "../../errors.ts";
import type { Argv, Op } from "../../shell.ts";
import { type GitAccess, gitAccess, PLAIN_LINE_ENDS, quote } from "./access/credentials.ts";
import { type Repository, repositoryOf } from "./access/repository.ts";
import { mirroredOrigins, sshRewrites } from "./access/rewrites.ts";
import { ALL_BRANCHES, isCommitId } from "./refs.ts";
import type { SourcesRequest } from "./sources-request.ts";

/** The runner's own git in `root`, before it is called. */
export interface Opened {
  readonly sha: string;
  readonly repository: Repository;
  readonly access: GitAccess;
  call(...args: string[]): Argv;
  /** Goes to `root`, and writes beside it how the runner's git is to behave. */
  readonly enter: readonly Op[];
  /** The repository's own settings, over what an earlier job or this one has left. */
  readonly configure: Op;
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
    configure: {
      op: "write",
      path: `${root}/.git/config`,
      content: repositoryConfig(request, repository, access),
    },
  };
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
