import { createHash } from "node:crypto";
import type { PipelineCase } from "../decide/case.ts";
import type { ProjectFacts } from "./facts.ts";

export interface PredefinedOptions {
  readonly facts: ProjectFacts;
  readonly source: string;
  /** Short. */
  readonly ref: string;
  readonly refType: PipelineCase["refType"];
  /** A merge request's target branch, and the commit where both branches parted; `undefined` for other sources. */
  readonly target: { readonly branch: string; readonly base: string } | undefined;
  /** Name of the directory. */
  readonly folder: string;
  readonly projectId: number;
  /** The CI file, from the top of the project. */
  readonly configPath: string;
}

const NO_COMMIT = "0".repeat(40);
const MOST_MESSAGE = 100_000;
/** The version whose rules are followed here; which one the server of `origin` has is not known. */
const SERVER_VERSION = "19.3.0";

/** Predefined variables that are known before there are jobs. What cannot be known is not among them. */
export function predefinedVariables(options: PredefinedOptions): ReadonlyMap<string, string> {
  const { facts, source, ref, refType, target, folder, projectId, configPath } = options;
  const path = facts.remote?.path ?? `local/${folder}`;
  const host = facts.remote?.host ?? "gitlab.com";
  const url = `https://${host}`;
  const parts = path.split("/");
  const sha = facts.sha ?? NO_COMMIT;
  const [title = "", ...rest] = facts.message.split("\n");
  const before = source === "push" && refType === "branch" ? (facts.parent ?? NO_COMMIT) : NO_COMMIT;
  const pairs: [string, string | undefined][] = [
    ["CI", "true"],
    ["GITLAB_CI", "true"],
    ["CI_COMMIT_SHA", sha],
    ["CI_COMMIT_SHORT_SHA", sha.slice(0, 8)],
    ["CI_COMMIT_BEFORE_SHA", before],
    ["CI_COMMIT_REF_NAME", ref],
    ["CI_COMMIT_REF_SLUG", slug(ref)],
    ["CI_COMMIT_BRANCH", refType === "branch" ? ref : undefined],
    ["CI_COMMIT_TAG", refType === "tag" ? ref : undefined],
    ["CI_COMMIT_TITLE", title],
    ["CI_COMMIT_MESSAGE", facts.message.slice(0, MOST_MESSAGE)],
    ["CI_COMMIT_MESSAGE_IS_TRUNCATED", facts.message.length > MOST_MESSAGE ? "true" : undefined],
    ["CI_COMMIT_DESCRIPTION", rest.join("\n").trim()],
    ["CI_COMMIT_AUTHOR", facts.author],
    ["CI_COMMIT_TIMESTAMP", facts.timestamp],
    ["CI_COMMIT_REF_PROTECTED", String(refType === "branch" && ref === facts.defaultBranch)],
    ["CI_DEFAULT_BRANCH", facts.defaultBranch],
    ["CI_PIPELINE_SOURCE", source],
    ["CI_PIPELINE_IID", "1"],
    ["CI_PIPELINE_CREATED_AT", new Date().toISOString().replace(/\.\d+Z$/, "Z")],
    ["CI_PIPELINE_TRIGGERED", source === "trigger" ? "true" : undefined],
    ["CI_CONFIG_PATH", configPath],
    ["CI_PROJECT_ID", String(projectId)],
    ["CI_PROJECT_NAME", parts.at(-1)],
    ["CI_PROJECT_TITLE", parts.at(-1)],
    ["CI_PROJECT_PATH", path],
    ["CI_PROJECT_PATH_SLUG", slug(path)],
    ["CI_PROJECT_NAMESPACE", parts.slice(0, -1).join("/")],
    ["CI_PROJECT_NAMESPACE_SLUG", slug(parts.slice(0, -1).join("/"))],
    ["CI_PROJECT_ROOT_NAMESPACE", parts[0]],
    ["CI_PROJECT_URL", `${url}/${path}`],
    ["CI_PROJECT_VISIBILITY", "private"],
    ["CI_SERVER", "yes"],
    ["CI_SERVER_NAME", "GitLab"],
    ["CI_SERVER_VERSION", SERVER_VERSION],
    ["CI_SERVER_VERSION_MAJOR", SERVER_VERSION.split(".")[0]],
    ["CI_SERVER_VERSION_MINOR", SERVER_VERSION.split(".")[1]],
    ["CI_SERVER_VERSION_PATCH", SERVER_VERSION.split(".")[2]],
    ["CI_SERVER_URL", url],
    ["CI_SERVER_HOST", host.replace(/:\d+$/, "")],
    ["CI_SERVER_FQDN", host],
    ["CI_SERVER_PORT", /:(\d+)$/.exec(host)?.[1] ?? "443"],
    ["CI_SERVER_PROTOCOL", "https"],
    ["CI_API_V4_URL", `${url}/api/v4`],
    ["CI_API_GRAPHQL_URL", `${url}/api/graphql`],
    ["CI_PROJECT_NAMESPACE_ID", String(projectId)],
    ["GITLAB_USER_ID", "1"],
    ["GITLAB_USER_LOGIN", facts.user.login || undefined],
    ["GITLAB_USER_NAME", facts.user.name || undefined],
    ["GITLAB_USER_EMAIL", facts.user.email || undefined],
    ["ALLOY_EXEC", "true"],
  ];
  if (refType === "merge_request" && target !== undefined)
    pairs.push(
      ["CI_MERGE_REQUEST_IID", "1"],
      ["CI_MERGE_REQUEST_ID", "1"],
      ["CI_MERGE_REQUEST_REF_PATH", "refs/merge-requests/1/head"],
      ["CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", ref],
      ["CI_MERGE_REQUEST_TARGET_BRANCH_NAME", target.branch],
      ["CI_MERGE_REQUEST_DIFF_BASE_SHA", target.base],
      ["CI_MERGE_REQUEST_EVENT_TYPE", "detached"],
      ["CI_MERGE_REQUEST_PROJECT_PATH", path],
      ["CI_MERGE_REQUEST_PROJECT_ID", String(projectId)],
      ["CI_MERGE_REQUEST_PROJECT_URL", `${url}/${path}`],
      ["CI_MERGE_REQUEST_SOURCE_PROJECT_PATH", path],
      ["CI_MERGE_REQUEST_SOURCE_PROJECT_ID", String(projectId)],
      ["CI_MERGE_REQUEST_TITLE", title],
      ["CI_MERGE_REQUEST_TARGET_BRANCH_PROTECTED", String(target.branch === facts.defaultBranch)],
      ["CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", ""],
      ["CI_MERGE_REQUEST_TARGET_BRANCH_SHA", ""],
    );
  return new Map(pairs.flatMap(([key, value]) => (value === undefined ? [] : [[key, value] as const])));
}

/** Variables that a server predefines, and that are set for a job at the latest, if at all. */
const OF_A_SERVER =
  "CHAT_CHANNEL CHAT_INPUT CHAT_USER_ID CI_COMMIT_BRANCH CI_COMMIT_TAG CI_COMMIT_TAG_MESSAGE CI_DEBUG_SERVICES CI_DEBUG_TRACE CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX CI_DEPENDENCY_PROXY_PASSWORD CI_DEPENDENCY_PROXY_SERVER CI_DEPENDENCY_PROXY_USER CI_DEPLOY_FREEZE CI_DEPLOY_PASSWORD CI_DEPLOY_USER CI_GITLAB_FIPS_MODE CI_HAS_OPEN_REQUIREMENTS CI_KUBERNETES_ACTIVE CI_MERGE_REQUEST_APPROVED CI_MERGE_REQUEST_ASSIGNEES CI_MERGE_REQUEST_DESCRIPTION CI_MERGE_REQUEST_DIFF_BASE_SHA CI_MERGE_REQUEST_DIFF_ID CI_MERGE_REQUEST_DRAFT CI_MERGE_REQUEST_EVENT_TYPE CI_MERGE_REQUEST_ID CI_MERGE_REQUEST_IID CI_MERGE_REQUEST_LABELS CI_MERGE_REQUEST_MILESTONE CI_MERGE_REQUEST_PROJECT_ID CI_MERGE_REQUEST_PROJECT_PATH CI_MERGE_REQUEST_PROJECT_URL CI_MERGE_REQUEST_REF_PATH CI_MERGE_REQUEST_SOURCE_BRANCH_NAME CI_MERGE_REQUEST_SOURCE_BRANCH_SHA CI_MERGE_REQUEST_SOURCE_PROJECT_ID CI_MERGE_REQUEST_SOURCE_PROJECT_PATH CI_MERGE_REQUEST_SQUASH_ON_MERGE CI_MERGE_REQUEST_TARGET_BRANCH_NAME CI_MERGE_REQUEST_TARGET_BRANCH_PROTECTED CI_MERGE_REQUEST_TARGET_BRANCH_SHA CI_MERGE_REQUEST_TITLE CI_OPEN_MERGE_REQUESTS CI_PAGES_DOMAIN CI_PAGES_HOSTNAME CI_PAGES_URL CI_PIPELINE_SCHEDULE_DESCRIPTION CI_PIPELINE_TRIGGERED CI_PROJECT_CLASSIFICATION_LABEL CI_PROJECT_REPOSITORY_LANGUAGES CI_REGISTRY CI_REGISTRY_IMAGE CI_REGISTRY_PASSWORD CI_REGISTRY_USER CI_RELEASE_DESCRIPTION CI_TEMPLATE_REGISTRY_HOST CI_TRIGGER_SHORT_TOKEN CI_UPSTREAM_JOB_ID CI_UPSTREAM_PIPELINE_ID CI_UPSTREAM_PROJECT_ID GITLAB_FEATURES GITLAB_USER_EMAIL GITLAB_USER_ID GITLAB_USER_LOGIN GITLAB_USER_NAME KUBECONFIG TRIGGER_PAYLOAD".split(
    " ",
  );

/** Names of predefined variables that no job has in this case. */
export function unsetVariables({ predefined, given }: PipelineCase): string[] {
  return OF_A_SERVER.filter((name) => !predefined.has(name) && !given.has(name));
}

/** Makes a text fit for names of hosts and the like: at most 63 of `a-z0-9-`, with a letter or digit at both ends. */
export function slug(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^a-z0-9]/g, "-")
    .slice(0, 63)
    .replace(/^-+|-+$/g, "");
}

/** `CI_ENVIRONMENT_SLUG`: at most 24 signs, and none but the name itself gives the same. */
export function environmentSlug(name: string): string {
  let text = name.toLowerCase().replace(/[^a-z0-9]/g, "-");
  if (!/^[a-z]/.test(text)) text = `env-${text}`;
  text = text.replace(/-+/g, "-");
  if (text.length <= 24 && text === name) return text.replace(/-$/, "");
  const digest = BigInt(`0x${createHash("sha256").update(name).digest("hex")}`).toString(36);
  return `${text.slice(0, 17).replace(/-$/, "")}-${digest.slice(-6)}`;
}

/** A job's name without what `parallel` has added. */
export function groupName(name: string): string {
  let group = name;
  for (let time = 0; time < 3; time++) group = group.replace(/(?:[\s:]+(?:\[.*\]|\d+[\s:/\\]+\d+))\s*$/, "");
  return group;
}
