import type { Argv, Op } from "../../shell.ts";
import type { GitSettings } from "../plan/settings.ts";
import { succeeds, when } from "../plan/when.ts";
import type { Repository } from "./access/repository.ts";
import { ALL_BRANCHES, type Ref } from "./refs.ts";

interface CloneRequest {
  readonly git: GitSettings;
  readonly ref: Ref;
  readonly repository: Repository;
  /** What the working copy's own configuration includes while the job runs. */
  readonly authorConfig: string | null;
  readonly plainLineEnds: boolean;
  /** git with these arguments, as the runner calls it. */
  call(...args: string[]): Argv;
}

/**
 * `git clone` into the empty directory where this is, if the job wants it so: it takes options that a fetch has not, and servers can
 * answer it from what they have ready.
 * @param otherwise for a git that does not know an option of it, as `--revision` before 2.49, and a server that refuses: says why
 */
export function cloneOr(otherwise: readonly Op[], request: CloneRequest): readonly Op[] {
  const { git, ref, repository, authorConfig, plainLineEnds, call } = request;
  if (git.nativeClone === undefined) return otherwise;
  const named = ref.kind === "branch" || ref.kind === "tag" ? [`--branch=${ref.name}`] : [];
  const wanted = ref.kind === "other" ? [`--revision=${ref.name}`] : named;
  const depth = git.depth === 0 ? [] : [`--depth=${git.depth}`];
  const options = ["--quiet", "--no-checkout", "--origin=origin", "--template=", ...depth, ...wanted];
  const clone = call("clone", ...options, ...git.nativeClone.flags, "--", repository.url, ".");
  const set = (...args: string[]): Op => ({ op: "run", argv: call("config", ...args) });
  const settings = [
    set("--replace-all", "remote.origin.fetch", ALL_BRANCHES),
    set("gc.autoDetach", "false"),
    ...(plainLineEnds ? [set("core.autocrlf", "false"), set("core.eol", "lf")] : []),
    ...(authorConfig === null ? [] : [set("include.path", authorConfig)]),
  ];
  return [when(succeeds(clone), settings, otherwise)];
}
