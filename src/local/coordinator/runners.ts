import { randomBytes } from "node:crypto";
import type { Dialect } from "../../job/job.ts";
import { type Channel, createChannel } from "./channel.ts";
import { stringsAt, tableAt, textAt, type Wire } from "./http/wire.ts";

/** What is wanted of a runner that is added without registering. */
export interface RunnerSpec {
  /** Default: `null`, none. */
  readonly tags?: readonly string[] | null;
  /** Default: true without tags, false with tags. */
  readonly runUntagged?: boolean;
  /** Take jobs of this project only; default: `null`, of every project. */
  readonly projectId?: number | null;
  readonly description?: string;
  readonly paused?: boolean;
  /** Default: made up in the shape that the coordinator's own tokens have. */
  readonly token?: string;
  /** GitLab: RFC 3339; default: `null`, it never expires. */
  readonly tokenExpiresAt?: string | null;
}

/** A runner as the coordinator knows it. Assigning to it is what an administrator does in the web pages. */
export interface LocalRunner {
  readonly id: number;
  token: string;
  tokenExpiresAt: string | null;
  description: string;
  tags: readonly string[] | null;
  runUntagged: boolean;
  projectId: number | null;
  /** GitLab only; AlloyCI never looks at it. */
  paused: boolean;
  /** `info` of the last call that had one. */
  info: Wire;
  /** `system_id`s that were seen with its token. */
  readonly systemIds: Set<string>;
}

export interface RunnerBook {
  readonly all: readonly LocalRunner[];
  add(spec?: RunnerSpec): LocalRunner;
  find(token: unknown): LocalRunner | undefined;
  remove(runner: LocalRunner): void;
  /** What a call told about the runner. AlloyCI casts it onto its row, where some keys do harm. */
  learn(runner: LocalRunner, info: Wire): void;
  /** GitLab: changes whenever there may be work for `runner`. */
  version(runner: LocalRunner): string;
  /** There may be work for all whom `matches` names. */
  bump(matches: (runner: LocalRunner) => boolean): void;
  readonly bumped: Channel<void>;
}

export function createRunnerBook(dialect: Dialect): RunnerBook {
  const all: LocalRunner[] = [];
  const versions = new Map<LocalRunner, string>();
  const bumped = createChannel<void>();
  return {
    all,
    bumped,
    add(spec = {}) {
      const tags = spec.tags === undefined || spec.tags === null ? null : [...spec.tags];
      const runner: LocalRunner = {
        id: all.length === 0 ? 1 : Math.max(...all.map((other) => other.id)) + 1,
        token: spec.token ?? createToken(dialect, "glrt-"),
        tokenExpiresAt: spec.tokenExpiresAt ?? null,
        description: spec.description ?? "local runner",
        tags,
        runUntagged: spec.runUntagged ?? (tags === null || tags.length === 0),
        projectId: spec.projectId ?? null,
        paused: spec.paused ?? false,
        info: {},
        systemIds: new Set(),
      };
      all.push(runner);
      return runner;
    },
    find: (token) => all.find((runner) => runner.token === token),
    remove(runner) {
      const index = all.indexOf(runner);
      if (index >= 0) all.splice(index, 1);
      versions.delete(runner);
    },
    learn(runner, info) {
      runner.info = info;
      if (dialect === "gitlab") return;
      runner.description = textAt(info, "description") ?? runner.description;
      runner.token = textAt(info, "token") ?? runner.token;
      if ("tags" in info) runner.tags = stringsAt(info, "tags") ?? null;
      if (typeof info.run_untagged === "boolean") runner.runUntagged = info.run_untagged;
      if (typeof info.project_id === "number") runner.projectId = info.project_id;
    },
    version(runner) {
      const known = versions.get(runner) ?? randomBytes(16).toString("hex");
      versions.set(runner, known);
      return known;
    },
    bump(matches) {
      for (const runner of all) if (matches(runner)) versions.set(runner, randomBytes(16).toString("hex"));
      bumped.emit();
    },
  };
}

/** Does the runner say that it has `feature`? */
export function hasFeature(runner: LocalRunner | undefined, feature: string): boolean {
  return runner !== undefined && tableAt(runner.info, "features")[feature] === true;
}

/** A secret in the shape that the coordinator gives it: AlloyCI 24 URL-safe characters that end in `==`. */
export function createToken(dialect: Dialect, prefix: string): string {
  if (dialect === "gitlab") return prefix + randomBytes(15).toString("base64url");
  return `${randomBytes(16).toString("base64url")}==`;
}
