import { ScriptFailure } from "../../../errors.ts";
import type { Job } from "../../job.ts";

/** Where the sources are: an address without secrets, and what opens it. */
export interface Repository {
  /** For git's configuration and for people: holds no password, and no user name over HTTP. */
  readonly url: string;
  /** `https://github.com`, `https://git.example.com:8443`: what the credentials are good for. `null` if not HTTP. */
  readonly origin: string | null;
  readonly credentials: { readonly username: string; readonly password: string } | null;
}

/** User info of an address as it is written there, percent signs and all; both empty where there is none. */
export function splitUserInfo(url: string): { user: string; password: string } {
  const [, info = ""] = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)@/is.exec(url) ?? [];
  const colon = info.indexOf(":");
  return colon < 0 ? { user: info, password: "" } : { user: info.slice(0, colon), password: info.slice(colon + 1) };
}

/**
 * The job's repository. Where the operator has set `clone_url`, AlloyCI's address gets its scheme, host and port and keeps
 * its own credentials (the repository lies at GitHub, whose token only AlloyCI has); GitLab's address is built anew. One by SSH is
 * opened by the keys of whoever runs git.
 * @param get value of a job variable
 * @throws {ScriptFailure} there is no address, or one that git must not be given
 */
export function repositoryOf(job: Job, cloneUrl: string, get: (key: string) => string | undefined): Repository {
  const received = job.git.repoUrl.trim();
  if (received === "") {
    throw new ScriptFailure(
      "The coordinator named no repository (git_info.repo_url is empty). Use GIT_STRATEGY=none for a job without sources",
    );
  }
  if (/^ssh:\/\//i.test(cloneUrl)) return bySsh(cloneUrl, received);
  if (!/^https?:\/\//i.test(cloneUrl)) return parseRepository(received);
  const base = new URL(cloneUrl);
  const path = get("CI_PROJECT_PATH");
  if (job.dialect === "gitlab" && path !== undefined && path !== "") {
    return {
      ...parseRepository(`${base.origin}${base.pathname.replace(/\/+$/, "")}${pathOf(path)}`),
      credentials: { username: "gitlab-ci-token", password: get("CI_JOB_TOKEN") ?? job.token },
    };
  }
  if (!/^https?:\/\//i.test(received)) return parseRepository(received);
  const { url, credentials } = parseRepository(received);
  const from = new URL(url);
  const moved = `${base.origin}${base.pathname.replace(/\/+$/, "")}${from.pathname}${from.search}`;
  return { ...parseRepository(moved), credentials };
}

function pathOf(project: string): string {
  return `/${project.split("/").map(encodeURIComponent).join("/")}.git`;
}

/**
 * The path is that of the address which the coordinator gave: what a job says in `CI_PROJECT_PATH` must not choose among the
 * repositories that the operator's key opens.
 */
function bySsh(cloneUrl: string, received: string): Repository {
  const [, user = "", rest = ""] = /^ssh:\/\/(?:([^@/]*)@)?(.*)$/i.exec(cloneUrl) ?? [];
  const base = rest.replace(/\/+$/, "");
  const path = URL.canParse(received) ? new URL(received).pathname : `/${received.replace(/^[^/]*?:\/*/, "")}`;
  const root = base.replace(/^[^/]*/, "");
  const below = root !== "" && path.startsWith(`${root}/`) ? path.slice(root.length) : path;
  return parseRepository(`ssh://${user === "" ? "git" : user}@${base}${below}`);
}

/** Only ways to fetch that run no program of the job's choice. */
function parseRepository(address: string): Repository {
  const refuse = (why: string): never => {
    throw new ScriptFailure(
      `The repository's address ${JSON.stringify(showAddress(address))} cannot be used: ${why}. Expected is http, https, ssh, git or a file`,
    );
  };
  if (/[\x00-\x1f\x7f]/.test(address)) return refuse("it holds control characters");
  if (address.startsWith("/")) return { url: address, origin: null, credentials: null };
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(address)?.[1]?.toLowerCase();
  switch (scheme) {
    case "http":
    case "https": {
      if (!URL.canParse(address)) return refuse("it is no valid URL");
      const url = new URL(address);
      const { username, password } = url;
      url.username = "";
      url.password = "";
      url.hash = "";
      const secret = { username: decode(username), password: decode(password) };
      if (/[\x00\r\n]/.test(secret.username + secret.password)) return refuse("its credentials hold a line break");
      return { url: url.href, origin: url.origin, credentials: username === "" && password === "" ? null : secret };
    }
    case "ssh":
    case "git":
    case "file": {
      const [, before = "", user = "", rest = ""] =
        /^([a-z+.-]+:\/\/)(?:([^/@:]*)(?::[^/@]*)?@)?(.*)$/is.exec(address) ?? [];
      if (rest.startsWith("-") || user.startsWith("-")) return refuse("its host begins with a dash");
      return { url: `${before}${user === "" ? "" : `${user}@`}${rest}`, origin: null, credentials: null };
    }
    default:
      // `git@github.com:acme/widget.git`; two colons would name a program (`ext::sh -c …`).
      if (
        scheme === undefined &&
        /^(?:[\w.][\w.-]*@)?[\w.][\w.-]*:(?!:)[^-]/.test(address) &&
        !address.includes("::")
      ) {
        return { url: address, origin: null, credentials: null };
      }
      return refuse(scheme === undefined ? "it has no scheme" : `its scheme is ${scheme}`);
  }
}

/** An address without user info and query, for messages. */
function showAddress(address: string): string {
  const shown = address.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/?#]*@/is, "$1").replace(/[?#].*$/s, "");
  return shown.length > 300 ? `${shown.slice(0, 300)}…` : shown;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
