import type { Job, Trust } from "../../src/job/job.ts";

/** The trust of a project's own refs that are not protected. */
export const ownTrust: Trust = { level: "project", source: "" };

/** A sound job of AlloyCI that does nothing, changed by `more`. */
export function sampleJob(more: Partial<Job> = {}): Job {
  return {
    id: "1",
    token: "job-token",
    dialect: "alloy",
    name: "test",
    projectId: "7",
    projectName: "project",
    git: {
      repoUrl: "https://example.com/group/project.git",
      ref: "main",
      refType: "branch",
      sha: "0".repeat(40),
      beforeSha: "0".repeat(40),
      refspecs: [],
      depth: 0,
      objectFormat: "sha1",
      protected: false,
    },
    allowGitFetch: true,
    timeoutMs: 3_600_000,
    variables: [],
    steps: [],
    image: null,
    services: [],
    artifacts: [],
    cache: [],
    credentials: [],
    dependencies: [],
    hooks: [],
    features: { traceSections: false, failureReasons: [], tokenMaskPrefixes: [] },
    serverTls: {},
    queuedSeconds: undefined,
    warnings: [],
    problem: null,
    ...more,
  };
}
