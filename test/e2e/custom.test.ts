import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { footprint } from "../support/memory.ts";
import { isAlive } from "../support/processes.ts";
import { linesOf, openProject } from "../support/project.ts";
import { openSite, type Site } from "../support/site.ts";
import { loginUser, sshdMissing, startSshd } from "../support/sshd.ts";

/** Jobs by programs of the operator's, on the built binary. */

const runHere = join(import.meta.dirname, "../support/drivers/run-here.sh");
const open: Site[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

interface Drivers {
  /** Lines of `[runners.custom]`, given where their programs are. */
  readonly table: (program: (name: string, text: string) => string, site: Site) => string;
}

async function siteWith({ table }: Drivers): Promise<Site> {
  const site = await openSite({ dialect: "gitlab", executor: "custom", stopped: true });
  open.push(site);
  const program = (name: string, text: string): string => {
    const path = join(site.dir, name);
    writeFileSync(path, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    return path;
  };
  await site.configure({ entry: `builds_dir = "${site.dir}/builds"\n[runners.custom]\n${table(program, site)}` });
  await site.start();
  return site;
}

describe("a whole job", () => {
  test("has GitLab's stages in GitLab's order; artifacts and caches come and go through scripts", async () => {
    const site = await siteWith({
      table: (program, { dir }) => `
config_exec = "${program("config", `echo '{"driver": {"name": "here", "version": "3"}}'`)}"
prepare_exec = "${program("prepare", `echo preparing; cp "$JOB_RESPONSE_FILE" ${dir}/response`)}"
run_exec = "${program("run", `echo "$3" >>${dir}/stages; exec ${runHere} "$2" "$3"`)}"
run_args = ["first"]
cleanup_exec = "${program("cleanup", `echo cleanup >>${dir}/stages`)}"`,
    });
    const common = { variables: { GIT_STRATEGY: "none" }, cache: { key: "k", paths: ["kept/"] } };
    const first = site.coordinator.enqueue({
      ...common,
      script: [
        "mkdir -p kept 'out/ü x'; head -c 20000000 /dev/urandom >kept/large; cksum <kept/large; echo made >'out/ü x/-f'",
      ],
      afterScript: ["echo after"],
      artifacts: { paths: ["out/"] },
    });
    await first.finished();
    expect(first.status, first.trace).toBe("success");
    expect(first.trace).toContain("run by programs of its operator's with driver here 3");
    expect(first.trace).toMatch(/^preparing$/m);
    // The job as it was received, including the fields that this runner does not use.
    const received = JSON.parse(readFileSync(join(site.dir, "response"), "utf8"));
    expect(received).toMatchObject({ token: first.token, job_info: { name: first.name }, git_info: {} });
    expect(first.trace).toMatch(/Running on \S+ via \S+\.\.\./);
    const sum = /^(\d+ 20000000)/m.exec(first.trace)?.[1] ?? "none";
    const second = site.coordinator.enqueue({
      ...common,
      script: ["cksum <kept/large; cat 'out/ü x/-f'; exit 5"],
      dependencies: [first],
      artifacts: { paths: ["out/"], when: "always" },
    });
    await second.finished();
    expect(second.status, second.trace).toBe("failed");
    expect(second.exitCode).toBe(5);
    expect(second.trace).toContain(sum);
    expect(second.trace).toMatch(/^made$/m);
    expect(second.artifacts).toHaveLength(1);
    await expect.poll(() => readFileSync(join(site.dir, "stages"), "utf8").split("cleanup\n").length).toBe(3);
    const [one = "", two = ""] = readFileSync(join(site.dir, "stages"), "utf8")
      .split("cleanup\n")
      // Each stage counts once, however many scripts it took.
      .map((part) =>
        part
          .split("\n")
          .filter((name, index, all) => name !== "" && name !== all[index - 1])
          .join(" "),
      );
    expect(one).toBe(
      "prepare_script get_sources build_script after_script archive_cache upload_artifacts_on_success cleanup_file_variables",
    );
    expect(two).toBe(
      "prepare_script get_sources restore_cache download_artifacts build_script upload_artifacts_on_failure cleanup_file_variables",
    );
    // The files for a clean-up are removed when its program has ended.
    const kept = async () => (await readdir(site.stateDir)).filter((name) => name.startsWith("custom-"));
    await expect.poll(kept, { timeout: 10_000 }).toEqual([]);
  });

  test("whose driver does not run the script fails with a sentence that names it", async () => {
    const site = await siteWith({
      table: (program) => `run_exec = "${program("run", `[ "$2" = build_script ] || exec bash "$1"`)}"`,
    });
    const job = site.coordinator.enqueue({ script: ["true"], variables: { GIT_STRATEGY: "none" } });
    await job.finished();
    expect(job.status).toBe("failed");
    expect(job.failureReason).toBe("runner_system_failure");
    expect(job.trace).toMatch(/run_exec \(.*run\) at stage build_script ended with .*, and the script was not run/);
  });

  test("that is canceled in its script: the driver hears of it, after_script and cleanup_exec still run", async () => {
    const site = await siteWith({
      table: (program, { dir }) => `
run_exec = "${runHere}"
cleanup_exec = "${program("cleanup", `touch ${dir}/cleaned`)}"
graceful_kill_timeout = 5`,
    });
    const job = site.coordinator.enqueue({
      script: ["echo ready; sleep 600"],
      afterScript: ["echo after all"],
      variables: { GIT_STRATEGY: "none" },
    });
    await job.traceContains("ready");
    job.cancel();
    await expect.poll(() => job.liveText, { timeout: 20_000 }).toContain("after all");
    await expect.poll(() => existsSync(join(site.dir, "cleaned")), { timeout: 20_000 }).toBe(true);
  });
});

test("a large cache goes through scripts in bounded memory", { timeout: 180_000 }, async () => {
  const site = await siteWith({ table: () => `run_exec = "${runHere}"` });
  const job = site.coordinator.enqueue({
    script: ["mkdir kept; head -c 300000000 /dev/urandom >kept/large"],
    cache: { key: "k", paths: ["kept/"] },
    variables: { GIT_STRATEGY: "none" },
  });
  await job.finished({ timeoutMs: 150_000 });
  expect(job.status, job.trace).toBe("success");
  expect(job.trace).toContain("Saved cache k: 2 entries");
  const { peakMb } = footprint(site.runner.child.pid ?? 0);
  // The peak is 145 MB on a busy machine and 185 MB on a quiet one; it was 235 to 290 MB.
  expect(peakMb).toBeLessThan(220);
});

test("kill -9 in mid-job: the next start ends its processes, cleans up with the same names and reports it", async () => {
  const site = await siteWith({
    table: (program, { dir }) => `
run_exec = "${runHere}"
config_exec = "${program("config", `echo '{"job_env": {"MACHINE": "m1"}}'`)}"
cleanup_exec = "${program("cleanup", `echo "$MACHINE $CUSTOM_ENV_CI_CONCURRENT_PROJECT_ID $CUSTOM_ENV_CI_JOB_ID" >>${dir}/cleaned`)}"`,
  });
  const job = site.coordinator.enqueue({
    script: ["echo pid $$ ready; sleep 600"],
    variables: { GIT_STRATEGY: "none" },
  });
  await job.traceContains("ready");
  const pid = /pid (\d+) ready/.exec(job.liveText)?.[1] ?? "";
  await site.runner.stop("SIGKILL");
  expect(isAlive(pid)).toBe(true);
  await site.start();
  await job.finished();
  expect(job.status).toBe("failed");
  await expect.poll(() => isAlive(pid)).toBe(false);
  expect(readFileSync(join(site.dir, "cleaned"), "utf8")).toBe(`m1 0 ${job.id}\n`);
  expect(job.trace).toMatch(/ran cleanup_exec/);
});

test("an entry whose program is not there runs no jobs, and does once it is", async () => {
  const site = await openSite({ dialect: "gitlab", executor: "custom", entries: 1, stopped: true });
  open.push(site);
  const path = join(site.dir, "driver");
  await site.configure({ entry: `builds_dir = "${site.dir}/builds"\n[runners.custom]\nrun_exec = "${path}"\n` });
  const asked = site.start();
  await expect.poll(() => site.runner.stderr()).toMatch(/runners\.custom\.run_exec of .*cannot be started \(ENOENT\)/);
  const job = site.coordinator.enqueue({ script: ["echo here"], variables: { GIT_STRATEGY: "none" } });
  writeFileSync(path, readFileSync(runHere), { mode: 0o755 });
  await asked;
  await job.finished();
  expect(job.status, job.trace).toBe("success");
});

const noSshd = sshdMissing();
test.skipIf(noSshd !== null)(
  "a driver over plain ssh, by flags of exec",
  async () => {
    const [sshd, project] = [await startSshd(), await openProject()];
    try {
      const user = loginUser(sshd);
      const driver = join(project.home, "driver");
      const ssh = `ssh -q -i ${sshd.keyFile} -o UserKnownHostsFile=${sshd.knownHostsFile} -p ${sshd.port} ${user.name}@${sshd.host}`;
      writeFileSync(
        driver,
        `#!/bin/bash\n${ssh} /bin/bash <"$1"\ncode=$?\n[ $code = 0 ] && exit 0\necho $code >"$BUILD_EXIT_CODE_FILE"; exit "$BUILD_FAILURE_EXIT_CODE"\n`,
        { mode: 0o755 },
      );
      await project.ciFile(`
stages: [build, test]
compile: {stage: build, script: [cat new, whoami, mkdir out, echo made > out/file], artifacts: {paths: [out/]}}
unit: {script: [cat out/file, exit 9]}
`);
      writeFileSync(join(project.dir, "new"), "untracked\n");
      const flags = ["--executor", "custom", "--custom-run-exec", driver, "--builds-dir", join(user.home, "builds")];
      const { code, stdout, stderr } = await project.exec(flags);
      expect(code, stdout + stderr).toBe(9);
      expect(linesOf("compile", stdout)).toEqual(expect.arrayContaining(["untracked", user.name]));
      expect(linesOf("unit", stdout)).toContain("made");
      expect(existsSync(join(user.home, "builds/project"))).toBe(false);
    } finally {
      rmSync(join(project.home, "driver"), { force: true });
      await project.close();
      await sshd.close();
    }
  },
  60_000,
);
