import { createAsk, misconfigured, type Outside } from "../cloud/ask.ts";
import { describeError, type FailureReason, SystemFailure } from "../errors.ts";
import type { SecretRequest, Variable } from "../job/job.ts";
import { retry } from "../time.ts";
import { awsSecretsManager } from "./aws.ts";
import { azureKeyVault } from "./azure.ts";
import { gitlabSecretsManager } from "./gitlab.ts";
import { googleSecretManager } from "./google.ts";
import type { Provider, SecretContext } from "./provider.ts";
import { vault } from "./vault.ts";

/** What secrets of a job are asked for with. */
export interface SecretMeans
  extends Omit<Outside, "chosenByJobs">,
    Pick<SecretContext, "plainHttpHosts" | "environment"> {}

export interface ResolveRequest extends Pick<SecretContext, "expand" | "get"> {
  /** From now on these must not show. Each call is dear: all patterns of the trace are made anew. */
  hide(secrets: readonly string[]): void;
  /** @returns why `text` of `whose` cannot be hidden with the others that were counted; `null`: it can */
  count(text: string, whose: string): string | null;
  readonly secrets: readonly SecretRequest[];
  /** Whether a secret that is not there fails the job; otherwise its variable is empty. */
  readonly mustExist: boolean;
  /** How often a store is asked where that may help: `SECRETS_RETRIEVAL_ATTEMPTS`. Nothing below it tries again. */
  readonly attempts: number;
  /** Pause before the second attempt, by default 5 s; it grows to 5 min. */
  readonly attemptPauseMs?: number;
  print(text: string, tone?: "warning"): void;
}

const providers: Readonly<Record<string, Provider>> = {
  vault,
  gcp_secret_manager: googleSecretManager,
  azure_key_vault: azureKeyVault,
  gitlab_secrets_manager: gitlabSecretsManager,
  aws_secrets_manager: awsSecretsManager,
};

const AT_ONCE = 4;
const LONGEST_BYTES = 1024 * 1024;
const MOST_REASONS = 20;

/**
 * A job's secrets as its variables: all of them, or none. Their values are hidden in the trace before this resolves.
 * @throws {SystemFailure} says for each what is wrong
 */
export async function resolveSecrets(
  request: ResolveRequest,
  means: SecretMeans,
  signal: AbortSignal,
): Promise<Variable[]> {
  const { secrets, attempts, attemptPauseMs = 5000, print } = request;
  const known = secrets.filter(({ name, from }) => {
    if (Object.hasOwn(providers, from)) return true;
    print(`The store of the secret ${name} is none that this runner knows; the variable is missing.`, "warning");
    return false;
  });
  const found = new Map<string, string>();
  await retry(
    {
      attempts,
      firstMs: attemptPauseMs,
      maxMs: attemptPauseMs * 60,
      onRetry: (error, attempt) =>
        print(`Attempt ${attempt} of ${attempts} failed: ${describeError(error)}`, "warning"),
    },
    () => resolveMissing(known, found, request, means, signal),
    signal,
  );
  return known.map(({ name, file }) => ({
    key: name,
    value: found.get(name) ?? "",
    file,
    public: false,
    masked: true,
    raw: true,
  }));
}

/** Fills `found` with what it has not yet. */
async function resolveMissing(
  secrets: readonly SecretRequest[],
  found: Map<string, string>,
  { expand, get, count, hide, mustExist, print }: ResolveRequest,
  means: SecretMeans,
  signal: AbortSignal,
): Promise<void> {
  const tokens = new Map<string, Promise<string>>();
  const hidden = new Set<string>();
  let excess: SystemFailure | undefined;
  const keep = (text: string, whose: string): void => {
    const problem = count(text, whose);
    if (problem !== null) excess ??= misconfigured(problem);
    if (excess !== undefined) throw excess;
    hidden.add(text);
  };
  const context: SecretContext = {
    ask: createAsk({ ...means, chosenByJobs: true }),
    expand,
    get,
    hide: (texts) => {
      for (const text of texts) keep(text, "a token for a store");
    },
    once: (key, logIn) => {
      const token = tokens.get(key) ?? logIn();
      tokens.set(key, token);
      return token;
    },
    plainHttpHosts: means.plainHttpHosts,
    environment: means.environment,
  };
  const failures: { readonly name: string; readonly error: SystemFailure }[] = [];
  const resolve = async ({ name, from, wanted }: SecretRequest): Promise<void> => {
    print(`Resolving the secret ${name} (${from})...`);
    try {
      const value = (await providers[from]?.(wanted, context, signal)) ?? null;
      if (value === null && mustExist) throw notFound();
      if (Buffer.byteLength(value ?? "") > LONGEST_BYTES) throw tooLong();
      if (value === null) print(`There is no such secret: ${name} is empty.`, "warning");
      else keep(value, `the secret ${name}`);
      found.set(name, value ?? "");
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof SystemFailure)) throw error;
      failures.push({ name, error });
    }
  };
  const waiting = secrets.filter(({ name }) => !found.has(name));
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined && excess === undefined; next = waiting.shift()) {
      await resolve(next);
    }
  };
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  } finally {
    // Until here nothing was said that could show one of them.
    hide([...hidden]);
  }
  if (excess !== undefined) throw excess;
  if (failures.length > 0) throw together(failures);
}

function notFound(): SystemFailure {
  return new SystemFailure("there is no such secret", { reason: "runner_configuration_error" });
}

function tooLong(): SystemFailure {
  return new SystemFailure(`it has more than ${LONGEST_BYTES} bytes`, { reason: "runner_configuration_error" });
}

/** By whom something is to be done about it first. */
const ORDER: readonly FailureReason[] = [
  "runner_configuration_error",
  "runner_system_failure",
  "runner_external_dependency_failure",
];

function together(failures: readonly { readonly name: string; readonly error: SystemFailure }[]): SystemFailure {
  const reasons = failures.map(({ error }) => error.reason);
  const said = failures.slice(0, MOST_REASONS).map(({ name, error }) => `${name}: ${describeError(error)}`);
  if (failures.length > said.length) said.push(`and ${failures.length - said.length} more`);
  return new SystemFailure(`The job's secrets cannot be resolved: ${said.join("; ")}`, {
    retry: failures.every(({ error }) => error.retry),
    reason: ORDER.find((reason) => reasons.includes(reason)) ?? "runner_system_failure",
  });
}
