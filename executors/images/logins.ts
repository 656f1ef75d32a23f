import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { describeError } from "../../src/errors.ts";
import type { RegistryCredential } from "../../src/job/job.ts";
import { askCredentialHelper } from "./credential-process.ts";
import { DOCKER_HUB, type ImageReference } from "./reference.ts";

/** A login for one registry, as the engine wants it in `X-Registry-Auth`. */
interface RegistryLogin {
  readonly username?: string;
  readonly password?: string;
  /** OAuth refresh token, instead of a password. */
  readonly identitytoken?: string;
  readonly registrytoken?: string;
  readonly serveraddress: string;
}

export interface FoundLogin {
  readonly login: RegistryLogin;
  /** For the trace: `job credentials`, `DOCKER_AUTH_CONFIG of the job`. */
  readonly from: string;
}

/** Logins that count for a job. */
export interface RegistryLogins {
  /**
   * All logins for an image, those that fit best first: where the job's and the operator's name the same registry, the
   * longer path wins, then the source.
   */
  find(reference: ImageReference, signal: AbortSignal): Promise<readonly FoundLogin[]>;
  /** What of the sources could not be read, one sentence each, without contents. */
  readonly warnings: readonly string[];
}

export interface LoginSources {
  /** `DOCKER_AUTH_CONFIG` among the job's variables, text of a docker configuration; only its static logins count. */
  readonly jobConfig: string | undefined;
  /** The same in `environment` of the entry, which is the operator's word. */
  readonly entryConfig: string | undefined;
  /** The same of the runner's own environment. */
  readonly operatorConfig: string | undefined;
  /** Credentials that the coordinator sent with the job. */
  readonly jobCredentials: readonly RegistryCredential[];
  /** Directory of the operator's `config.json` (`~/.docker`); `undefined`: there is none. */
  readonly configDir: string | undefined;
  /** Home directory, for the older `.dockercfg`. */
  readonly home: string | undefined;
  /** PATH and HOME of credential helpers. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Told of passwords and tokens, as they are and as they are written, before anybody gets a login: no trace may show them. */
  hide(secrets: readonly string[]): void;
}

const authSchema = z.object({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
  registrytoken: z.string().optional(),
});
const configSchema = z.object({
  auths: z.record(z.string(), authSchema).nullish(),
  credsStore: z.string().nullish(),
  credHelpers: z.record(z.string(), z.string()).nullish(),
});
type AuthConfig = z.infer<typeof configSchema>;

interface Source {
  readonly from: string;
  readonly config: AuthConfig;
  /** Only the operator may name programs. */
  readonly mayRun: boolean;
}

/**
 * Where logins come from, in the order of the Go runner and GitLab Runner: `DOCKER_AUTH_CONFIG` of the job, of the entry and of
 * the runner, the docker configuration of the runner's account, and what the coordinator sent. A source that cannot be read is a warning.
 */
export async function openLogins(sources: LoginSources): Promise<RegistryLogins> {
  const warnings: string[] = [];
  const found: Source[] = [];
  const add = (from: string, text: string, mayRun: boolean): void => {
    const config = parseConfig(text);
    if (config === null) {
      warnings.push(`${from} is no docker configuration ({"auths": {…}}): no logins are taken from it`);
      return;
    }
    if (!mayRun && (config.credsStore || Object.keys(config.credHelpers ?? {}).length > 0)) {
      warnings.push(`${from} names credential helpers: they are never run for a job, only its "auths" count`);
    }
    found.push({ from, config, mayRun });
  };

  if (sources.jobConfig) add("DOCKER_AUTH_CONFIG of the job", sources.jobConfig, false);
  if (sources.entryConfig) add("DOCKER_AUTH_CONFIG in environment of the entry", sources.entryConfig, true);
  if (sources.operatorConfig) add("DOCKER_AUTH_CONFIG of the runner", sources.operatorConfig, true);
  const file = await readOperatorConfig(sources, warnings);
  if (file !== null) add(file.path, file.text, true);
  const sent: Record<string, z.infer<typeof authSchema>> = {};
  for (const { url, username, password } of sources.jobCredentials) sent[url] = { username, password };
  found.push({ from: "job credentials", config: { auths: sent }, mayRun: false });

  sources.hide(found.flatMap(({ config }) => Object.values(config.auths ?? {}).flatMap(secretsOf)));
  return {
    warnings,
    async find(reference, signal) {
      const wanted = `${reference.registry}/${reference.repository}`;
      const candidates: (FoundLogin & { readonly fit: number })[] = [];
      for (const { from, config, mayRun } of found) {
        if (mayRun) {
          const login = await helperLogin(config, reference.registry, sources.env, signal).catch((error: unknown) => {
            signal.throwIfAborted();
            warnings.push(
              `the credential helper that ${from} names for ${reference.registry} failed: ${describeError(error)}`,
            );
            return null;
          });
          if (login !== null) {
            sources.hide(secretsOf(login));
            candidates.push({ login, from: `credential helper of ${from}`, fit: reference.registry.length });
          }
        }
        for (const [key, auth] of Object.entries(config.auths ?? {})) {
          const place = placeOf(key);
          const login = loginOf(auth, place.split("/")[0] ?? place);
          if (login !== null && covers(place, wanted)) candidates.push({ login, from, fit: place.length });
        }
      }
      // A stable sort: of equal fits the earlier source stays in front.
      return candidates.sort((a, b) => b.fit - a.fit).map(({ login, from }) => ({ login, from }));
    },
  };
}

function parseConfig(text: string): AuthConfig | null {
  try {
    const parsed = configSchema.safeParse(JSON.parse(text));
    if (parsed.success) return parsed.data;
    // The older form is the table of logins by itself.
    const old = z.record(z.string(), authSchema).safeParse(JSON.parse(text));
    return old.success ? { auths: old.data } : null;
  } catch {
    return null;
  }
}

async function readOperatorConfig(
  { configDir, home }: LoginSources,
  warnings: string[],
): Promise<{ path: string; text: string } | null> {
  const paths = [
    ...(configDir === undefined ? [] : [join(configDir, "config.json")]),
    ...(home === undefined ? [] : [join(home, ".dockercfg")]),
  ];
  for (const path of paths) {
    try {
      return { path, text: await readFile(path, "utf8") };
    } catch (error) {
      const missing =
        error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR");
      if (!missing) warnings.push(`${path} cannot be read: ${describeError(error)}`);
    }
  }
  return null;
}

/** `https://index.docker.io/v1/` → `docker.io`; `registry.example.com:5000/group` stays. */
function placeOf(key: string): string {
  const bare = key
    .trim()
    .replace(/^https?:\/\//i, "")
    .replace(/\/+$/, "");
  const [host = "", ...path] = bare.split("/");
  const registry = /^(?:index\.docker\.io|registry-1\.docker\.io|registry\.hub\.docker\.com)$/i.test(host)
    ? DOCKER_HUB
    : host.toLowerCase();
  // `/v1/` and `/v2/` are the registry's own paths, no part of a name.
  const inside = path.join("/").replace(/^v[12](?:\/|$)/, "");
  return inside === "" ? registry : `${registry}/${inside}`;
}

/** Only whole parts count: `host/group` covers `host/group/app`, not `host/groupies`. */
function covers(place: string, wanted: string): boolean {
  return place !== "" && (wanted === place || wanted.startsWith(`${place}/`));
}

function loginOf(auth: z.infer<typeof authSchema>, serveraddress: string): RegistryLogin | null {
  if (auth.identitytoken) {
    return { identitytoken: auth.identitytoken, username: decoded(auth)?.username ?? "", serveraddress };
  }
  if (auth.registrytoken) return { registrytoken: auth.registrytoken, serveraddress };
  const pair = decoded(auth);
  return pair === null ? null : { ...pair, serveraddress };
}

function decoded(auth: z.infer<typeof authSchema>): { username: string; password: string } | null {
  if (auth.username !== undefined && auth.password !== undefined && auth.username !== "") {
    return { username: auth.username, password: auth.password };
  }
  const text = Buffer.from(auth.auth ?? "", "base64").toString("utf8");
  const colon = text.indexOf(":");
  // Docker pads the password with NUL bytes where it was written so.
  return colon < 1 ? null : { username: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, "") };
}

function secretsOf(auth: z.infer<typeof authSchema>): string[] {
  const values = [auth.auth, auth.password, auth.identitytoken, auth.registrytoken, decoded(auth)?.password];
  return values.filter((value): value is string => value !== undefined && value !== "");
}

/** What the operator's helper has for a registry; docker's own order: `credHelpers`, then `credsStore`. */
async function helperLogin(
  config: AuthConfig,
  registry: string,
  env: LoginSources["env"],
  signal: AbortSignal,
): Promise<RegistryLogin | null> {
  const servers =
    registry === DOCKER_HUB
      ? ["https://index.docker.io/v1/", "index.docker.io", DOCKER_HUB]
      : [registry, `https://${registry}`];
  const own = Object.entries(config.credHelpers ?? {}).find(([key]) => placeOf(key) === registry);
  const program = own?.[1] || config.credsStore;
  if (!program) return null;
  for (const server of own === undefined ? servers : [own[0], ...servers]) {
    const answer = await askCredentialHelper(program, server, env, signal);
    if (answer === null) continue;
    const { username, secret } = answer;
    return username === "<token>"
      ? { identitytoken: secret, serveraddress: registry }
      : { username, password: secret, serveraddress: registry };
  }
  return null;
}
