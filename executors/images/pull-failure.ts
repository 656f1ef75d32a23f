import { type FailureReason, SystemFailure } from "../../src/errors.ts";

/** Why a pull failed, found out from the words of the engine, or the node, and the registry: nothing else tells. */

export interface PullKind {
  readonly words: RegExp;
  readonly reason: FailureReason;
  readonly retry: boolean;
  readonly hint: string;
  /** Another login may be what is missing. */
  readonly login?: true;
}

const KINDS: readonly PullKind[] = [
  {
    words: /no space left on device|disk quota exceeded/i,
    reason: "runner_system_failure",
    retry: false,
    hint: "Its disk is full, where images are kept: free some space there, for example with `docker system prune`",
  },
  {
    words: /toomanyrequests|too many requests|rate limit/i,
    reason: "runner_external_dependency_failure",
    retry: true,
    hint: "The registry limits pulls: give the runner a login for it, or use a mirror",
  },
  {
    words:
      /no matching manifest|does not match the specified platform|no image found in .* for architecture|image operating system .* cannot be used/i,
    reason: "image_pull_failure",
    retry: false,
    hint: "The image is not there for this platform",
  },
  {
    words: /server gave HTTP response to HTTPS client/i,
    reason: "image_pull_failure",
    retry: false,
    hint: "The registry speaks no TLS: it must be among the engine's insecure-registries",
  },
  {
    words: /x509|certificate signed by unknown authority|tls: /i,
    reason: "runner_external_dependency_failure",
    retry: false,
    hint: "The engine does not trust the registry's certificate: put its authority into /etc/docker/certs.d on the engine's machine",
  },
  // Docker Hub words a missing image as a missing right: it comes before both.
  {
    words: /pull access denied|repository does not exist or may require|requested access to the resource is denied/i,
    reason: "image_pull_failure",
    retry: false,
    hint: "The image does not exist, or it needs a login that may read it",
    login: true,
  },
  {
    words:
      /unauthorized|authentication required|no basic auth credentials|incorrect username or password|access (?:to the resource )?(?:is )?(?:denied|forbidden)|denied:|\b40[13]\b|invalid username\/password/i,
    reason: "image_pull_failure",
    retry: false,
    hint: "The registry wants another login: see DOCKER_AUTH_CONFIG",
    login: true,
  },
  {
    words: /manifest unknown|manifest for .* not found|name unknown|not found|repository does not exist|\b404\b/i,
    reason: "image_pull_failure",
    retry: false,
    hint: "There is no such image: check its name and tag",
  },
  {
    words:
      /connection refused|connection reset|i\/o timeout|timeout|no such host|server misbehaving|network is unreachable|no route to host|temporary failure|unexpected EOF|\bEOF\b|context deadline|request canceled|broken pipe|bad gateway|service unavailable|\b50[0-4]\b|lookup .* on /i,
    reason: "runner_external_dependency_failure",
    retry: true,
    hint: "The registry cannot be reached",
  },
];

const OTHER: PullKind = { words: /$/, reason: "image_pull_failure", retry: true, hint: "" };

export function pullKind(said: string): PullKind {
  return KINDS.find(({ words }) => words.test(said)) ?? OTHER;
}

/** A pull that did not work; `wantsLogin`: another login may help. */
export class PullFailure extends SystemFailure {
  readonly wantsLogin: boolean;
  constructor(message: string, kind: Pick<PullKind, "reason" | "retry" | "login">, cause: unknown) {
    super(message, { reason: kind.reason, retry: kind.retry, cause });
    this.wantsLogin = kind.login === true;
  }
}

/**
 * @param said words of the daemon
 * @param as whose login was used, for the message; empty: none
 */
export function pullFailure(name: string, said: string, as: string, cause?: unknown): PullFailure {
  const kind = pullKind(said);
  const login = as === "" ? (kind.login ? ", without a login" : "") : `, with the login of ${as}`;
  const hint = kind.hint === "" ? "" : `. ${kind.hint}`;
  return new PullFailure(`Cannot pull the image "${name}"${login}: ${oneLine(said)}${hint}`, kind, cause);
}

function oneLine(text: string): string {
  return text
    .trim()
    .replace(/\s*[\r\n]+\s*/g, " ")
    .replace(/\.$/, "")
    .slice(0, 1000);
}
