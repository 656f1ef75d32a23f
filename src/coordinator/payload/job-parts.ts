/** Parts of a job's JSON → parts of a `Job`. */
import type {
  Artifact,
  Cache,
  CoordinatorFeatures,
  Dependency,
  GitInfo,
  Hook,
  Image,
  PolicyOptions,
  RegistryCredential,
  SecretRequest,
  Service,
  Step,
  Variable,
} from "../../job/job.ts";
import { type Fields, fieldsOf, isFields, MOST_VARIABLES, type Reader } from "./coerce.ts";

/** GitLab has some thirty. */
export const MOST_MASK_PREFIXES = 200;

const conditions = ["on_success", "on_failure", "always"] as const;

export function readGit(value: unknown, reader: Reader): GitInfo {
  const git = fieldsOf(value);
  const fullRef = reader.name(git.ref, "git_info.ref");
  const ref = fullRef.replace(/^refs\/(?:heads|tags)\//, "");
  const sha = reader.name(git.sha, "git_info.sha");
  // AlloyCI names no format; the length of a commit's name does.
  const byLength = /^\s*[0-9a-f]{64}\s*$/i.test(sha) ? "sha256" : "sha1";
  return {
    repoUrl: reader.name(git.repo_url, "git_info.repo_url"),
    ref,
    // AlloyCI says `branch` for tags too: the prefix knows better.
    refType: fullRef.startsWith("refs/tags/") || (fullRef === ref && git.ref_type === "tag") ? "tag" : "branch",
    sha,
    beforeSha: reader.name(git.before_sha, "git_info.before_sha"),
    refspecs: reader.names(git.refspecs, "git_info.refspecs").filter((refspec) => refspec !== ""),
    depth: Math.max(0, Math.trunc(reader.number(git.depth, "git_info.depth") ?? 0)),
    objectFormat: reader.choice(git.repo_object_format ?? byLength, ["sha1", "sha256"], "git_info.repo_object_format"),
    protected: (git.protected ?? null) === null ? null : reader.flag(git.protected, "git_info.protected"),
  };
}

export function readVariables(value: unknown, reader: Reader): Variable[] {
  return reader.records(value, "variables", MOST_VARIABLES).flatMap((entry) => {
    const key = reader.name(entry.key, "The name of a variable");
    if (key === "") {
      reader.warn("A variable without a name was ignored.");
      return [];
    }
    const place = `Variable ${key}`;
    return [
      {
        key,
        value: reader.text(entry.value, place),
        public: reader.flag(entry.public, `${place}: public`),
        file: reader.flag(entry.file, `${place}: file`),
        masked: reader.flag(entry.masked, `${place}: masked`),
        raw: reader.flag(entry.raw, `${place}: raw`),
      },
    ];
  });
}

export function readSteps(value: unknown, reader: Reader): Step[] {
  return reader.records(value, "steps").map((entry) => {
    const name = reader.name(entry.name, "The name of a step") || "script";
    const seconds = reader.number(entry.timeout, `steps.${name}.timeout`) ?? 0;
    return {
      name,
      script: reader.texts(entry.script, `steps.${name}.script`),
      timeoutMs: seconds > 0 ? seconds * 1000 : null,
      // AlloyCI copies the `when` of the job, which may be `manual` or `delayed`: that was over before it was sent.
      when:
        entry.when === "manual" || entry.when === "delayed"
          ? "on_success"
          : reader.choice(entry.when, conditions, `steps.${name}.when`),
      allowFailure: reader.flag(entry.allow_failure, `steps.${name}.allow_failure`),
    };
  });
}

/** `null` where no image is named: the configured default is used. */
export function readImage(value: unknown, place: string, reader: Reader): Image | null {
  const image = namedFields(value);
  const name = reader.name(image.name, `${place}.name`).trim();
  if (name === "") return null;
  // AlloyCI sends the table as it stands in the CI file.
  const given = fieldsOf(image.executor_opts);
  const options = { ...fieldsOf(image.docker), ...fieldsOf(given.docker) };
  const inPods = { ...fieldsOf(image.kubernetes), ...fieldsOf(given.kubernetes) };
  warnOfUnknown({ ...given, docker: options, kubernetes: inPods }, `${place} ${quoted(name)}`, reader);
  const kubernetesUser = reader.name(inPods.user, `${place}.kubernetes.user`);
  return {
    name,
    entrypoint: optionalTexts(image.entrypoint, `${place}.entrypoint`, reader),
    pullPolicies: reader.names(image.pull_policy, `${place}.pull_policy`),
    user: reader.name(options.user, `${place}.docker.user`) || null,
    platform: reader.name(options.platform, `${place}.docker.platform`) || null,
    ...(kubernetesUser === "" ? {} : { kubernetesUser }),
  };
}

const knownOptions: Readonly<Record<string, readonly string[]>> = {
  docker: ["user", "platform"],
  kubernetes: ["user"],
};

/** What its author asks for, and nobody here does. */
function warnOfUnknown(given: Fields, place: string, reader: Reader): void {
  const unknown = Object.entries(given).flatMap(([executor, options]) => {
    const known = knownOptions[executor];
    if (known === undefined) return options === null ? [] : [executor];
    const others = Object.entries(fieldsOf(options)).filter(([name, value]) => value !== null && !known.includes(name));
    return others.map(([name]) => `${executor}.${name}`);
  });
  if (unknown.length === 0) return;
  const shown = unknown.slice(0, 10).map(quoted).join(", ");
  const more = unknown.length > 10 ? ` and ${unknown.length - 10} more` : "";
  reader.warn(`${place} has executor_opts that this runner does not know and ignores: ${shown}${more}.`);
}

function quoted(name: string): string {
  return JSON.stringify(name.length > 60 ? `${name.slice(0, 60)}…` : name);
}

export function readServices(value: unknown, reader: Reader): Service[] {
  const entries: readonly unknown[] = Array.isArray(value) ? value : [value];
  return reader.within(entries, "services").flatMap((entry) => {
    const service = namedFields(entry);
    const image = readImage(service, "services", reader);
    if (image === null) {
      if (entry !== null && entry !== undefined) reader.warn("A service without an image name was ignored.");
      return [];
    }
    const aliases = [
      ...reader.names(service.alias, "services.alias"),
      ...reader.names(service.aliases, "services.aliases"),
    ];
    return [
      {
        ...image,
        aliases: aliases.flatMap((alias) => alias.split(/[\s,]+/)).filter((alias) => alias !== ""),
        command: optionalTexts(service.command, "services.command", reader),
        variables: readServiceVariables(service.variables, reader),
      },
    ];
  });
}

/** GitLab sends a list; AlloyCI the table of the CI file, which everybody can read there. */
function readServiceVariables(value: unknown, reader: Reader): Variable[] {
  if (!isFields(value) || value.key !== undefined) return readVariables(value, reader);
  return Object.entries(value).flatMap(([key, given]): Variable[] => {
    if (key === "") return [];
    const table = isFields(given) ? given : { value: given };
    const raw = table.expand === false;
    const text = reader.text(table.value, `services.variables.${key}`);
    return [{ key, value: text, public: true, file: false, masked: false, raw }];
  });
}

export function readArtifacts(value: unknown, reader: Reader): Artifact[] {
  return reader.records(value, "artifacts").map((entry) => ({
    name: reader.name(entry.name, "artifacts.name"),
    untracked: reader.flag(entry.untracked, "artifacts.untracked"),
    paths: reader.texts(entry.paths, "artifacts.paths"),
    exclude: reader.texts(entry.exclude, "artifacts.exclude"),
    when: reader.choice(entry.when, conditions, "artifacts.when"),
    expireIn: reader.name(entry.expire_in, "artifacts.expire_in"),
    type: reader.name(entry.artifact_type, "artifacts.artifact_type") || "archive",
    format: reader.choice(entry.artifact_format, ["zip", "gzip", "raw"], "artifacts.artifact_format"),
  }));
}

export function readCache(value: unknown, reader: Reader): Cache[] {
  return reader.records(value, "cache").map((entry) => ({
    key: reader.name(entry.key, "cache.key"),
    untracked: reader.flag(entry.untracked, "cache.untracked"),
    paths: reader.texts(entry.paths, "cache.paths"),
    policy: reader.name(entry.policy, "cache.policy") || "pull-push",
    when: reader.choice(entry.when, conditions, "cache.when"),
    fallbackKeys: reader.names(entry.fallback_keys, "cache.fallback_keys"),
  }));
}

export function readCredentials(value: unknown, reader: Reader): RegistryCredential[] {
  return reader
    .records(value, "credentials")
    .filter((entry) => entry.type === undefined || entry.type === null || entry.type === "registry")
    .map((entry) => ({
      url: reader.name(entry.url, "credentials.url"),
      username: reader.text(entry.username, "credentials.username"),
      password: reader.text(entry.password, "credentials.password"),
    }))
    .filter((credential) => credential.url !== "");
}

export function readDependencies(value: unknown, reader: Reader): Dependency[] {
  return reader.records(value, "dependencies").map((entry) => {
    const file = fieldsOf(entry.artifacts_file);
    const name = reader.name(file.filename, "dependencies.artifacts_file.filename");
    return {
      id: reader.name(entry.id, "dependencies.id"),
      name: reader.name(entry.name, "dependencies.name"),
      token: reader.name(entry.token, "dependencies.token"),
      file:
        name === ""
          ? null
          : { name, size: Math.max(0, reader.number(file.size, "dependencies.artifacts_file.size") ?? 0) },
    };
  });
}

export function readHooks(value: unknown, reader: Reader): Hook[] {
  return reader.records(value, "hooks").flatMap((entry) => {
    const script = reader.texts(entry.script, "hooks.script");
    const { name } = entry;
    if (name === "pre_get_sources_script" || name === "post_get_sources_script") return [{ name, script }];
    reader.warn("A hook that this runner does not know was ignored.");
    return [];
  });
}

/** `undefined`: the job is of no policy. */
export function readPolicy(value: unknown, reader: Reader): PolicyOptions | undefined {
  const policy = fieldsOf(value);
  if (!reader.flag(policy.execution_policy_job, "policy_options.execution_policy_job")) return undefined;
  const allowed = policy.policy_variables_override_allowed ?? null;
  const at = "policy_options.policy_variables_override";
  return {
    name: reader.name(policy.policy_name, "policy_options.policy_name"),
    overrideAllowed: allowed === null ? null : reader.flag(allowed, `${at}_allowed`),
    exceptions: reader.names(policy.policy_variables_override_exceptions, `${at}_exceptions`),
  };
}

const stores = ["vault", "gcp_secret_manager", "azure_key_vault", "gitlab_secrets_manager", "aws_secrets_manager"];

/** By the names of their variables. What each store is told is read when it is asked. */
export function readSecrets(value: unknown, reader: Reader): SecretRequest[] {
  const entries = Object.entries(fieldsOf(value)).filter(([name]) => name !== "");
  return reader.within(entries, "secrets").map(([name, given]) => {
    const secret = fieldsOf(given);
    const file = secret.file === undefined || secret.file === null || reader.flag(secret.file, `secrets.${name}.file`);
    const isGiven = (store: string): boolean => secret[store] !== undefined && secret[store] !== null;
    const from = stores.find(isGiven) ?? Object.keys(secret).find((key) => key !== "file" && key !== "token") ?? "";
    return { name: reader.name(name, "The name of a secret"), file, from, wanted: secret[from] };
  });
}

export function readFeatures(value: unknown, reader: Reader): CoordinatorFeatures {
  const features = fieldsOf(value);
  return {
    traceSections: reader.flag(features.trace_sections, "features.trace_sections"),
    failureReasons: reader.names(features.failure_reasons, "features.failure_reasons"),
    tokenMaskPrefixes: reader
      .texts(features.token_mask_prefixes, "features.token_mask_prefixes")
      .filter((prefix) => prefix.trim() !== "")
      .filter((_prefix, index) => {
        if (index === MOST_MASK_PREFIXES) {
          reader.warn(
            `features.token_mask_prefixes has more than ${MOST_MASK_PREFIXES} entries: words with the others are not masked.`,
          );
        }
        return index < MOST_MASK_PREFIXES;
      }),
  };
}

/** A bare name stands for an object with that name. */
function namedFields(value: unknown): Fields {
  return isFields(value) ? value : { name: Array.isArray(value) ? undefined : value };
}

function optionalTexts(value: unknown, place: string, reader: Reader): string[] | null {
  return value === null || value === undefined ? null : [...reader.within(reader.texts(value, place), place)];
}
