import { LONGEST_DISGUISED } from "../../trace/mask/disguises.ts";
import type { Job, Variable } from "../job.ts";
import { splitUserInfo } from "../sources/access/repository.ts";
import { expandReferences } from "./expand.ts";
import { registrySecrets } from "./registry-secrets.ts";
import { createSecretAmount } from "./secret-amount.ts";

/** The longest docker configuration that is parsed for the passwords in it. */
export const LONGEST_LOGINS_BYTES = 1024 * 1024;

/** What a job's trace must not show. */
export interface JobSecrets {
  /** Each once and none empty. */
  readonly values: readonly string[];
  /** Why they cannot all be hidden: then the job must not run, and `values` are the runner's own. */
  readonly problem: string | null;
  readonly warnings: readonly string[];
}

/**
 * Secret variables as received and as expanded, tokens, what is in the user info of URLs, and registry passwords. AlloyCI has
 * no `masked`: there every variable that is not public is a secret.
 * @param known secrets of the runner's own, such as its token
 */
export function secretsOf(job: Job, known: readonly string[] = []): JobSecrets {
  const own = [...known, job.token].filter((text) => text !== "");
  const amount = createSecretAmount(own);
  const warnings: string[] = [];
  let problem: string | null = null;
  const add = (text: string, whose: string): void => {
    problem ??= amount.add(text, whose);
  };
  const lookup = new Map(job.variables.map(({ key, value }) => [key, value]));
  for (const variable of job.variables) {
    const { key, value } = variable;
    const whose = `the variable ${JSON.stringify(key.slice(0, 100))}`;
    if (key === "CI_REPOSITORY_URL") for (const text of secretsInUrl(value)) add(text, whose);
    if (key === "CI_JOB_TOKEN") add(value, whose);
    if (key === "DOCKER_AUTH_CONFIG") {
      if (value.length > LONGEST_LOGINS_BYTES) {
        problem ??= `DOCKER_AUTH_CONFIG has more than ${LONGEST_LOGINS_BYTES} bytes: the passwords in it are too much to be looked for.`;
      } else for (const text of registrySecrets(value)) add(text, whose);
    }
    if (!isSecret(job, variable)) continue;
    add(value, whose);
    if (!variable.raw)
      add(
        expandReferences(value, (name) => lookup.get(name) ?? ""),
        whose,
      );
    if (value.length > LONGEST_DISGUISED) {
      warnings.push(
        `${whose.replace("the", "The")} is longer than ${LONGEST_DISGUISED} characters: it is masked as it is and line by line, but not where it is encoded, quoted or escaped.`,
      );
    }
    if (problem !== null) break;
  }
  for (const service of job.services) {
    for (const variable of service.variables) {
      if (isSecret(job, variable)) add(variable.value, `the variable ${JSON.stringify(variable.key.slice(0, 100))}`);
    }
  }
  for (const text of secretsInUrl(job.git.repoUrl)) add(text, "the repository's address");
  for (const { password } of job.credentials) add(password, "a registry's password");
  for (const text of job.sensitiveInputs ?? []) add(text, "a sensitive input");
  for (const { token } of job.dependencies) add(token, "the token of a job before it");
  if (job.serverTls.key !== undefined) add(job.serverTls.key, "a key");
  return { values: problem === null ? [...amount.values] : own, problem, warnings: warnings.slice(0, MOST_WARNINGS) };
}

const MOST_WARNINGS = 20;

function isSecret(job: Job, variable: Variable): boolean {
  return variable.masked || (job.dialect === "alloy" && !variable.public);
}

/** The password, or the user name where that is all there is: `https://<token>@host/`. As written and decoded. */
function secretsInUrl(url: string): string[] {
  const { user, password } = splitUserInfo(url);
  const secret = password === "" ? user : password;
  // `git@host` and its like name an account that everybody knows.
  if (secret === "" || (password === "" && !/^https?:/i.test(url))) return [];
  return [secret, decodePercent(secret)];
}

function decodePercent(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
