import type { Job } from "../../job.ts";
import type { Repository } from "./repository.ts";

export interface RewriteRequest {
  readonly job: Job;
  readonly repository: Repository;
  /** `clone_url` of the entry; empty: there is none. */
  readonly cloneUrl: string;
  /** `url` of the entry. */
  readonly serverUrl?: URL | undefined;
  /** Value of a variable of the job. */
  get(key: string): string | undefined;
}

/**
 * `GIT_SUBMODULE_FORCE_HTTPS`: what is fetched by SSH from the repository's server comes by HTTP. GitLab says what its SSH
 * server is called, and which port it has; one with a port of its own is not meant by `git@host:`.
 */
export function sshRewrites(request: RewriteRequest): { from: string; to: string }[] {
  const base = baseOf(request);
  if (base === null) return [];
  const { job, get } = request;
  const isGitlab = job.dialect === "gitlab";
  const named = isGitlab ? get("CI_SERVER_SHELL_SSH_HOST") || get("CI_SERVER_HOST") : undefined;
  const host = named || base.hostname;
  const port = isGitlab ? (get("CI_SERVER_SHELL_SSH_PORT") ?? "") : "";
  // An HTTP port in a name means nothing to SSH, and a name with other signs would be another rule.
  if (!/^[\w.[\]:-]+$/.test(host) || !/^\d{0,5}$/.test(port)) return [];
  const to = `${base.origin}${base.pathname.replace(/\/+$/, "")}/`;
  const shell = `ssh://git@${host}`;
  if (port !== "" && port !== "22") return [{ from: `${shell}:${port}/`, to }];
  return [`git@${host}:`, `${shell}/`, `${shell}:22/`].map((from) => ({ from, to }));
}

function baseOf({ job, repository, cloneUrl, serverUrl }: RewriteRequest): URL | null {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(cloneUrl)) return isHttp(cloneUrl) ? new URL(cloneUrl) : null;
  // AlloyCI's repositories are at GitHub, and not at its own address.
  if (job.dialect === "gitlab" && serverUrl !== undefined) return serverUrl;
  return repository.origin === null ? null : new URL(repository.origin);
}

/** GitLab's token opens the server by both of its names: where `clone_url` is, and what it calls itself. */
export function mirroredOrigins({ dialect, git }: Job, { origin }: Repository, cloneUrl: string): string[] {
  if (dialect !== "gitlab" || !isHttp(cloneUrl) || !isHttp(git.repoUrl)) return [];
  const other = new URL(git.repoUrl.trim()).origin;
  return other === origin ? [] : [other];
}

function isHttp(address: string): boolean {
  return /^https?:\/\//i.test(address.trim()) && URL.canParse(address.trim());
}
