import type { Job, Variable } from "../job.ts";
import { splitUserInfo } from "../sources/repository.ts";
import { expandReferences } from "./expand.ts";
import { registrySecrets } from "./registry-secrets.ts";

/**
 * Values of a job that must not show in its trace, each once and none empty: secret variables as received and as
 * expanded, tokens, what is in the user info of URLs, and registry passwords. AlloyCI has no `masked`: there every variable
 * that is not public is a secret.
 * @param known secrets of the runner's own, such as its token
 */
export function secretsOf(job: Job, known: readonly string[] = []): string[] {
  const secrets = new Set<string>([...known, job.token]);
  const lookup = new Map(job.variables.map(({ key, value }) => [key, value]));
  for (const variable of job.variables) {
    if (variable.key === "CI_REPOSITORY_URL") for (const text of secretsInUrl(variable.value)) secrets.add(text);
    if (variable.key === "CI_JOB_TOKEN") secrets.add(variable.value);
    if (variable.key === "DOCKER_AUTH_CONFIG") for (const text of registrySecrets(variable.value)) secrets.add(text);
    if (!isSecret(job, variable)) continue;
    secrets.add(variable.value);
    if (!variable.raw) secrets.add(expandReferences(variable.value, (name) => lookup.get(name) ?? ""));
  }
  for (const service of job.services) {
    for (const variable of service.variables) if (isSecret(job, variable)) secrets.add(variable.value);
  }
  for (const text of secretsInUrl(job.git.repoUrl)) secrets.add(text);
  for (const { password } of job.credentials) secrets.add(password);
  for (const { token } of job.dependencies) secrets.add(token);
  if (job.serverTls.key !== undefined) secrets.add(job.serverTls.key);
  secrets.delete("");
  return [...secrets];
}

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
