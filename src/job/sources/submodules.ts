import type { Argv, Op } from "../../shell.ts";
import type { GitInfo } from "../job.ts";
import type { GitSettings } from "../plan/settings.ts";
import { succeeds, when } from "../plan/when.ts";
import { checkOutAnew } from "./check-out.ts";
import { submodulesLfs } from "./lfs.ts";
import { ALL_BRANCHES } from "./refs.ts";

export interface SubmodulesRequest {
  readonly settings: GitSettings["submodules"];
  readonly root: string;
  /** Repositories of submodules may be there from an earlier job, disarmed: without settings and links. */
  readonly reused: boolean;
  readonly cleanFlags: readonly string[] | null;
  readonly authorConfig: string | null;
  /** Files that LFS keeps are fetched. */
  readonly lfs: boolean;
  readonly objectFormat: GitInfo["objectFormat"];
  call(...args: string[]): Argv;
}

/** Bring the submodules of what is checked out to the commits that it names. */
export function getSubmodules(request: SubmodulesRequest): Op[] {
  const { settings, root, reused, cleanFlags, authorConfig, lfs, objectFormat, call } = request;
  if (settings.strategy === "none") return [];
  const recursive = settings.strategy === "recursive" ? ["--recursive"] : [];
  const paths = settings.paths.length > 0 ? ["--", ...settings.paths] : [];
  const depth = settings.depth > 0 ? ["--depth", String(settings.depth)] : [];
  const submodule = (...args: string[]): Argv => call("submodule", ...args);
  const run = (argv: Argv): Op => ({ op: "run", argv });
  const update = (...more: string[]): Argv =>
    submodule("update", "--init", "--force", ...recursive, ...depth, ...settings.updateFlags, ...more, ...paths);
  const each = (...args: string[]): Op => run(submodule("foreach", "--quiet", ...recursive, ...args));

  // A repository that was disarmed knows no remote: `sync` gives it the address, `config` the rest.
  const rearm: Op[] = reused ? [each("git", "config", "remote.origin.fetch", ALL_BRANCHES)] : [];
  // A shallow clone has one branch only, and what an earlier job has left of others is old: they are fetched where a first try has
  // put the submodules in their places, whether it ends well or not.
  const follows = settings.updateFlags.includes("--remote");
  const branches: Op[] = follows ? [each("git", "fetch", "--quiet", ...depth, "origin", ALL_BRANCHES)] : [];
  const quiet = succeeds(update("--no-fetch"));
  const fetchAll: Op = {
    op: "repeat",
    // A level of disarmed repositories can be reached when the level above it is there.
    attempts: reused && settings.strategy === "recursive" ? 3 : 2,
    pauseSeconds: 0,
    body: [
      run(submodule("sync", ...recursive, ...paths)),
      ...rearm,
      ...branches,
      // What has been fetched by now need not be asked for again.
      ...(follows ? [when(quiet, [], [run(update())])] : [run(update())]),
    ],
  };
  const clean: Op[] = cleanFlags === null ? [] : [each("git", "clean", ...cleanFlags)];
  const include: Op[] = authorConfig === null ? [] : [each("git", "config", "include.path", authorConfig)];
  return [
    when({ test: "file", path: `${root}/.gitmodules` }, [
      {
        op: "print",
        text: `Updating/initializing submodules${recursive.length > 0 ? " recursively" : ""}...`,
        tone: "notice",
      },
      ...(reused
        ? [
            ...(follows ? [when(quiet, []), fetchAll] : [when(quiet, [], [fetchAll])]),
            each("git", ...checkOutAnew("HEAD", objectFormat)),
          ]
        : [follows ? when(succeeds(update()), [], [fetchAll]) : fetchAll]),
      ...clean,
      ...rearm,
      ...include,
      ...(lfs ? [submodulesLfs(submodule, recursive, reused)] : []),
    ]),
  ];
}

/** Those of a working copy that was disarmed are as their commits again, and clean, as far as that needs no network. */
export function cleanSubmodules({
  settings: { strategy, paths },
  root,
  cleanFlags,
  call,
}: Pick<SubmodulesRequest, "settings" | "root" | "cleanFlags" | "call">): Op[] {
  if (strategy === "none") return [];
  const recursive = strategy === "recursive" ? ["--recursive"] : [];
  const chosen = paths.length > 0 ? ["--", ...paths] : [];
  const update = call("submodule", "update", "--init", "--force", "--no-fetch", ...recursive, ...chosen);
  const clean = call("submodule", "foreach", "--quiet", ...recursive, "git", "clean", ...(cleanFlags ?? []));
  return [
    when({ test: "file", path: `${root}/.gitmodules` }, [
      when(succeeds(update), cleanFlags === null ? [] : [{ op: "run", argv: clean }]),
    ]),
  ];
}
