import type { Op } from "../../../shell.ts";
import type { ServerTls } from "../../job.ts";
import type { GitSettings } from "../../plan/settings.ts";
import { succeeds, when } from "../../plan/when.ts";
import { CHECK_OUT_ALIAS } from "../check-out.ts";
import type { Repository } from "./repository.ts";
import { CERTIFICATES_ALIAS } from "./system-certificates.ts";

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
  readonly plainLineEnds: boolean;
  /** What the runner's own calls say that they are. */
  readonly userAgent: string;
  /** A server may name bundles, which are fetched first; none of their hosts gets the credentials. */
  readonly bundleUris: boolean;
  /** Goes with each request of the runner's own to the repository's host, which shows it in its log. */
  readonly correlationId: string | undefined;
  /** The credentials go with the first request already. */
  readonly proactiveAuth: boolean;
  /** Addresses that begin with `from` are fetched from `to` instead. */
  readonly sshRewrites: readonly { readonly from: string; readonly to: string }[];
  /** Other origins that have the repository, too, and take the same credentials. */
  readonly mirrored: readonly string[];
  /** Switch certificate checks off for our own calls. */
  readonly sslNoVerify: boolean;
  /** `https://alloy.example.com`: the coordinator, whose certificates are good for its own host only. */
  readonly coordinatorOrigin: string;
  readonly serverTls: ServerTls;
}

/**
 * Credentials are in no argument, in no URL and not in the checkout, but in a file beside it that a credential helper
 * prints. git asks a helper for the host that it is talking to at that moment, so a redirect or a submodule elsewhere gets
 * nothing; a header in `http.extraHeader` would go along.
 * The empty `helper` before it keeps stores of the account that jobs run under from learning the token.
 */
export function gitAccess(options: AccessOptions): GitAccess {
  const { repository, tmpDir, plainLineEnds, userAgent, sslNoVerify, bundleUris, sshRewrites, mirrored } = options;
  // A variable's file lies beside it, so a name that no variable has.
  const dir = `${tmpDir}/.git-access`;
  const ops: Op[] = [];
  const lines: string[] = [];

  if (repository.origin !== null && repository.credentials !== null) {
    const { username, password } = repository.credentials;
    ops.push({ op: "write", path: `${dir}/credentials`, content: `username=${username}\npassword=${password}\n` });
    for (const origin of [repository.origin, ...mirrored]) {
      lines.push(
        `[credential ${quote(origin)}]`,
        "\thelper =",
        `\thelper = ${quote(`!cat ${shellQuote(`${dir}/credentials`)} #`)}`,
      );
    }
  }
  const caFile = `${dir}/ca.pem`;
  const tls = coordinatorTls(options, caFile, dir, lines);
  ops.push(...tls.ops);
  for (const { from, to } of sshRewrites) lines.push(`[url ${quote(to)}]`, `\tinsteadOf = ${quote(from)}`);
  let authorConfig: string | null = null;
  if (lines.length > 0) {
    authorConfig = `${dir}/author.config`;
    ops.push({ op: "write", path: authorConfig, content: `${lines.join("\n")}\n` });
  }
  const runnerConfig = `${dir}/runner.config`;
  const own = [
    ...OWN_SETTINGS,
    ...(plainLineEnds ? ["[core]", ...PLAIN_LINE_ENDS] : []),
    "[http]",
    `\tuserAgent = ${quote(userAgent)}`,
    ...(sslNoVerify ? ["\tsslVerify = false"] : []),
    ...(bundleUris ? ["[transfer]", "\tbundleURI = true"] : []),
    ...towardsHost(options),
  ];
  const aliases = [CHECK_OUT_ALIAS, CERTIFICATES_ALIAS].map(({ name, value }) => `\t${name} = ${quote(value)}`);
  ops.push({ op: "write", path: runnerConfig, content: `${[...own, "[alias]", ...aliases, ...lines].join("\n")}\n` });
  if (tls.besideSystem) {
    ops.push(when(succeeds(["git", "-c", `include.path=${runnerConfig}`, CERTIFICATES_ALIAS.name, caFile]), []));
  }
  return { ops, runnerConfig, authorConfig };
}

/** No other host hears of it. */
function towardsHost({ repository, correlationId, proactiveAuth }: AccessOptions): string[] {
  const { origin, credentials } = repository;
  if (origin === null) return [];
  const lines = [
    ...(correlationId === undefined ? [] : [`\textraHeader = ${quote(`X-Gitaly-Correlation-ID: ${correlationId}`)}`]),
    ...(proactiveAuth && credentials !== null ? ["\tproactiveAuth = basic"] : []),
  ];
  return lines.length === 0 ? [] : [`[http ${quote(origin)}]`, ...lines];
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

/** Of `[core]`. */
export const PLAIN_LINE_ENDS: readonly string[] = ["\tautocrlf = false", "\teol = lf"];

/**
 * The CA that the operator trusts counts for the repository's host, too, and beside those of the system there. What the
 * coordinator only showed is good for itself, and so is the client's certificate.
 */
function coordinatorTls(
  { repository, coordinatorOrigin, serverTls, submodules }: AccessOptions,
  caFile: string,
  dir: string,
  lines: string[],
): { readonly ops: readonly Op[]; readonly besideSystem: boolean } {
  const { ca, caConfigured = false, cert, key } = serverTls;
  const ops: Op[] = [];
  const set = (name: string, path: string): void => void lines.push(`\t${name} = ${quote(path)}`);
  const write = (path: string, content: string): void => void ops.push({ op: "write", path, content });
  const isNeeded = repository.origin === coordinatorOrigin || submodules.strategy !== "none";
  const toCoordinator = isNeeded && coordinatorOrigin.startsWith("https:");
  const toRepository =
    caConfigured && repository.origin !== coordinatorOrigin && repository.origin?.startsWith("https:") === true;
  if (ca !== undefined && (toCoordinator || toRepository)) write(caFile, ca);
  if (toCoordinator && (ca !== undefined || cert !== undefined)) {
    lines.push(`[http ${quote(coordinatorOrigin)}]`);
    if (ca !== undefined) set("sslCAInfo", caFile);
    if (cert !== undefined && key !== undefined) {
      write(`${dir}/cert.pem`, cert);
      write(`${dir}/key.pem`, key);
      set("sslCert", `${dir}/cert.pem`);
      set("sslKey", `${dir}/key.pem`);
    }
  }
  if (toRepository && ca !== undefined) {
    lines.push(`[http ${quote(repository.origin ?? "")}]`);
    set("sslCAInfo", caFile);
  }
  return { ops, besideSystem: caConfigured && ca !== undefined && (toCoordinator || toRepository) };
}

/** A value, or the name of a section, as git's configuration files write it. */
export function quote(text: string): string {
  return `"${text.replace(/[\\"]/g, "\\$&").replaceAll("\n", "\\n").replaceAll("\t", "\\t")}"`;
}

/** git runs helpers by a POSIX shell on all platforms. */
function shellQuote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
