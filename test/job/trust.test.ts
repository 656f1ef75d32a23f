import { expect, test } from "vitest";
import type { GitInfo, Trust, Variable } from "../../src/job/job.ts";
import { trustOf } from "../../src/job/sources/trust.ts";
import { sampleJob } from "../support/job.ts";
import { variable } from "./stand.ts";

const PROTECTED = "CI_COMMIT_REF_PROTECTED";
const SOURCE = "CI_MERGE_REQUEST_SOURCE_PROJECT_ID";
const [FROM, TO] = ["CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY", "CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY"];

function trust(git: Partial<GitInfo>, variables: readonly (readonly [string, string])[] = []): Trust {
  const job = sampleJob({ projectId: "7", variables: variables.map(([key, value]): Variable => variable(key, value)) });
  return trustOf({ ...job, git: { ...job.git, protected: null, ...git } });
}

test.each<[Trust["level"], Partial<GitInfo>, (readonly [string, string])[]]>([
  ["project", { ref: "main" }, []],
  ["project", { ref: "v1", refType: "tag" }, []],
  ["project", { ref: "feature/x", protected: false }, [[PROTECTED, "false"]]],
  ["protected", { ref: "main", protected: true }, []],
  ["protected", { ref: "main" }, [[PROTECTED, "true"]]],
  // The coordinator's variable counts even if an author adds another of the same name.
  [
    "project",
    { ref: "x" },
    [
      [PROTECTED, "false"],
      [PROTECTED, "true"],
    ],
  ],
  ["project", { ref: "x", protected: false }, [[PROTECTED, "true"]]],
  ["project", { ref: "x" }, [[PROTECTED, ""]]],
  // AlloyCI writes `owner:branch`, also where a branch is called after something else.
  ["fork", { ref: "stranger:main" }, []],
  ["fork", { ref: "stranger:main", protected: true }, []],
  ["fork", { ref: "stranger:a b\u0001" }, []],
  [
    "fork",
    { ref: "stranger:main" },
    [
      [PROTECTED, "true"],
      [SOURCE, "7"],
    ],
  ],
  // GitLab runs merge requests in the project of the target, or in that of the source.
  ["fork", { ref: "refs/merge-requests/3/head" }, [[SOURCE, "8"]]],
  ["fork", { ref: "refs/merge-requests/3/head", protected: true }, [[SOURCE, "8"]]],
  [
    "fork",
    { ref: "refs/merge-requests/3/head" },
    [
      [SOURCE, "8"],
      [SOURCE, "7"],
    ],
  ],
  ["fork", { ref: "main" }, [[SOURCE, "8"]]],
  ["project", { ref: "refs/merge-requests/3/head" }, [[SOURCE, "7"]]],
  ["protected", { ref: "refs/merge-requests/3/head", protected: true }, [[SOURCE, "7"]]],
  [
    "fork",
    { ref: "main" },
    [
      [FROM, "stranger/widget"],
      [TO, "acme/widget"],
    ],
  ],
  [
    "project",
    { ref: "main" },
    [
      [FROM, "acme/widget"],
      [TO, "acme/widget"],
    ],
  ],
  // Neither variable names the project that the branch is from.
  ["fork", { ref: "refs/merge-requests/3/head" }, []],
  ["fork", { ref: "refs/pull/3/head" }, []],
])("%s: %j with %j", (level, git, variables) => {
  expect(trust(git, variables).level).toBe(level);
});

test("each fork is itself, whatever its branch is called; others have no name", () => {
  const source = (ref: string): string => trust({ ref }).source;
  expect(source("stranger:main")).toMatch(/^[0-9a-f]{16}$/);
  expect(source("stranger:main")).toBe(source("Stranger:other"));
  expect(source("stranger:main")).not.toBe(source("friend:main"));
  expect(source("main")).toBe("");
});
