import type { Op, Test } from "../../shell.ts";
import { succeeds, when } from "../plan/when.ts";
import { checkOutAnew } from "./check-out.ts";
import { ceiling, ENVIRONMENT } from "./get-sources.ts";
import { openRepository } from "./open-repository.ts";
import type { SourcesRequest } from "./sources-request.ts";
import { cleanSubmodules } from "./submodules.ts";
import { disarm } from "./working-copy.ts";

/**
 * What `FF_ENABLE_JOB_CLEANUP` has done when a job has ended: a working copy that the next job fetches into is brought back to its
 * commit and cleaned, one that would be made anew is removed. Git reads nothing there that the job could have written to have
 * something run. With `GIT_STRATEGY` none all stays.
 */
export function cleanUpSources(request: SourcesRequest): Op[] {
  const { job, root, git, trust } = request;
  if (git.strategy === "none") return [];
  const wipe: Op = { op: "remove", path: root };
  if (git.strategy !== "fetch" || trust.level === "fork") {
    return [{ op: "print", text: "Removing the project's directory", tone: "notice" }, wipe];
  }
  const { sha, call, enter, configure } = openRepository(request);
  const { cleanFlags, submodules } = git;
  const there: Test = { test: "directory", path: `${root}/.git` };
  const clean: Op[] = cleanFlags === null ? [] : [{ op: "run", argv: call("clean", ...cleanFlags) }];
  return [
    { op: "print", text: "Cleaning up the project's directory", tone: "notice" },
    ...Object.entries(ENVIRONMENT).map(([key, value]): Op => ({ op: "export", name: key, value })),
    ...ceiling(root),
    ...disarm(root, submodules.strategy !== "none"),
    when(
      there,
      [
        ...enter,
        configure,
        // A job whose sources never came has nothing to go back to.
        when(
          succeeds(call("cat-file", "-e", `${sha}^{commit}`)),
          [
            { op: "run", argv: call(...checkOutAnew(sha, job.git.objectFormat)) },
            { op: "write", path: `${root}/.git/HEAD`, content: `${sha}\n` },
            ...clean,
            ...cleanSubmodules({ settings: submodules, root, cleanFlags, call }),
          ],
          [wipe],
        ),
      ],
      [wipe],
    ),
  ];
}
