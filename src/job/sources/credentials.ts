import type { Op } from "../../shell.ts";
import type { GitSettings } from "../plan/settings.ts";
import type { Repository } from "./repository.ts";

/** How the runner's own git behaves in one job, and how it and the author's git open the repository's host. */
export interface GitAccess {
  /** Files to write before git is called. */
  readonly ops: readonly Op[];
  /** Configuration of the runner's calls: `git -c include.path=<this>`. */
  readonly runnerConfig: string;
  /** What the checkout's own configuration includes while the job runs, so that the author's `git fetch` works too. */
  readonly authorConfig: string | null;
}

export interface AccessOptions {
  readonly repository: Repository;
  /** Outside of the checkout, private to the job, removed at its end. */
  readonly tmpDir: string;
  readonly submodules: GitSettings["submodules"];
  /** Switch certificate checks off for our own calls. */
  readonly sslNoVerify: boolean;
  /** `https://alloy.example.com`: the coordinator, whose certificates are good for its own host only. */
  readonly coordinatorOrigin: string;
  readonly serverTls: { readonly ca?: string; readonly cert?: string; readonly key?: string };
}

/**
 * Credentials are in no argument, in no URL and not in the checkout, but in a file beside it that a credential helper
 * prints. git asks a helper for the host that it is talking to at that moment, so a redirect or a submodule elsewhere gets
 * nothing; a header in `http.extraHeader` would go along.
 * The empty `helper` before it keeps stores of the account that jobs run under from learning the token.
 */
export function gitAccess(options: AccessOptions): GitAccess {
  const { repository, tmpDir, submodules, sslNoVerify } = options;
  // A variable's file lies beside it, so a name that no variable has.
  const dir = `${tmpDir}/.git-access`;
  const ops: Op[] = [];
  const lines: string[] = [];

  if (repository.origin !== null && repository.credentials !== null) {
    const { username, password } = repository.credentials;
    ops.push({ op: "write", path: `${dir}/credentials`, content: `username=${username}\npassword=${password}\n` });
    lines.push(
      `[credential ${quote(repository.origin)}]`,
      "\thelper =",
      `\thelper = ${quote(`!cat ${shellQuote(`${dir}/credentials`)} #`)}`,
    );
  }
  ops.push(...coordinatorTls(options, dir, lines));
  if (repository.origin !== null && submodules.forceHttps) {
    const { host } = new URL(repository.origin);
    lines.push(
      `[url ${quote(`https://${host}/`)}]`,
      `\tinsteadOf = ${quote(`git@${host}:`)}`,
      `\tinsteadOf = ${quote(`ssh://git@${host}/`)}`,
    );
  }
  let authorConfig: string | null = null;
  if (lines.length > 0) {
    authorConfig = `${dir}/author.config`;
    ops.push({ op: "write", path: authorConfig, content: `${lines.join("\n")}\n` });
  }
  const runnerConfig = `${dir}/runner.config`;
  const own = sslNoVerify ? [...OWN_SETTINGS, "[http]", "\tsslVerify = false"] : OWN_SETTINGS;
  ops.push({ op: "write", path: runnerConfig, content: `${[...own, ...lines].join("\n")}\n` });
  return { ops, runnerConfig, authorConfig };
}

/**
 * Nothing that lies in a checkout, or in the account's configuration, runs beside our calls. `extensions` of the index and
 * the commit graph are files that an earlier job could have written; with them switched off the objects themselves count.
 */
const OWN_SETTINGS: readonly string[] = [
  "[core]",
  "\thooksPath = /dev/null",
  "\tfsmonitor = false",
  "\tuntrackedCache = false",
  "\tsparseCheckout = false",
  "\tcommitGraph = false",
  "\tuseReplaceRefs = false",
  "\taskPass =",
  // Git for Windows stops at 260 characters otherwise; others do not know it.
  "\tlongPaths = true",
  '[protocol "ext"]',
  "\tallow = never",
  "[credential]",
  "\tinteractive = never",
  "[fetch]",
  "\trecurseSubmodules = false",
  "[submodule]",
  "\trecurse = false",
  "[diff]",
  "\tignoreSubmodules = all",
  "[gc]",
  "\tautoDetach = false",
  "[maintenance]",
  "\tautoDetach = false",
  "[advice]",
  "\tdetachedHead = false",
];

function coordinatorTls(
  { repository, coordinatorOrigin, serverTls, submodules }: AccessOptions,
  dir: string,
  lines: string[],
): Op[] {
  const { ca, cert, key } = serverTls;
  const needed = repository.origin === coordinatorOrigin || submodules.strategy !== "none";
  if (!needed || !coordinatorOrigin.startsWith("https:") || (ca === undefined && cert === undefined)) return [];
  const ops: Op[] = [];
  lines.push(`[http ${quote(coordinatorOrigin)}]`);
  const add = (name: string, file: string, content: string): void => {
    ops.push({ op: "write", path: `${dir}/${file}`, content });
    lines.push(`\t${name} = ${quote(`${dir}/${file}`)}`);
  };
  if (ca !== undefined) add("sslCAInfo", "ca.pem", ca);
  if (cert !== undefined && key !== undefined) {
    add("sslCert", "cert.pem", cert);
    add("sslKey", "key.pem", key);
  }
  return ops;
}

/** A value, or the name of a section, as git's configuration files write it. */
export function quote(text: string): string {
  return `"${text.replace(/[\\"]/g, "\\$&").replaceAll("\n", "\\n").replaceAll("\t", "\\t")}"`;
}

/** git runs helpers by a POSIX shell on all platforms. */
function shellQuote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
