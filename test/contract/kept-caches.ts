import { expect } from "vitest";
import type { Executor } from "../../src/executor/executor.ts";
import type { Cache, Job } from "../../src/job/job.ts";
import { createStand, type Finished, jobWith, step } from "../job/stand.ts";

const KEPT = "which are still as they were unpacked";
const CODE = "deps/vendor/code";

/** A repository with `deps/list`, as jobs reach it. */
export interface Origin {
  readonly url: string;
  readonly sha: string;
}

/** Jobs whose cache stays where they run: each gets what was saved, whatever an earlier one did that did not save it. */
export async function keptCacheJobs(executor: Executor, { url, sha }: Origin, more: Partial<Job> = {}): Promise<void> {
  const stand = createStand();
  const git = { ...jobWith().git, repoUrl: url, ref: "main", sha };
  const run = async (script: string, cache: Partial<Cache> = {}, its: Partial<Job> = {}): Promise<Finished> => {
    const deps = {
      key: "deps",
      untracked: false,
      paths: ["deps/vendor/"],
      when: "on_success",
      fallbackKeys: [],
    } as const;
    const job = { variables: [], git, steps: [step("script", [script])], ...more, ...its };
    const finished = await stand.run(jobWith({ ...job, cache: [{ ...deps, policy: "pull", ...cache }] }), { executor });
    expect(finished.outcome, finished.trace).toEqual({ result: "success" });
    return finished;
  };
  try {
    await run(`mkdir deps/vendor; echo good >${CODE}`, { policy: "pull-push" });
    const unpacked = await run(`cat ${CODE}`, { policy: "pull-push" });
    expect(unpacked.trace).not.toContain(KEPT);
    expect(unpacked.trace).toContain("The cache deps is up to date");
    const attacker = await run(`cat ${CODE}; touch -r ${CODE} time; printf 'evil\\n' >${CODE}; touch -r time ${CODE}`);
    expect(attacker.trace).toContain(KEPT);
    expect(attacker.trace).toMatch(/\ngood\n/);
    const victim = await run(`cat ${CODE}; ls -l ${CODE}`);
    expect(victim.trace).not.toContain(KEPT);
    expect(victim.trace).toMatch(/\ngood\n/);
    const isProtected = await run("ls deps", {}, { git: { ...git, protected: true } });
    expect(isProtected.trace).toContain("There is no cache for deps-protected yet");
    expect(isProtected.trace).not.toMatch(/\nvendor\n/);
    const saved = await run(`echo else >${CODE}`, { policy: "pull-push" });
    expect(saved.trace).toContain(KEPT);
    const changed = await run(`cat ${CODE}`);
    expect(changed.trace).not.toContain(KEPT);
    expect(changed.trace).toMatch(/\nelse\n/);
    const other = await run("ls deps", { key: "other" });
    expect(other.trace).toContain("There is no cache for other yet");
    expect(other.trace).not.toMatch(/\nvendor\n/);
  } finally {
    await stand.close();
  }
}
