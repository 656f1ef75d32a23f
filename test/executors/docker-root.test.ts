import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { ScriptFailure, SystemFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Job } from "../../src/job/job.ts";
import { never } from "../../src/time.ts";
import { imageName, noEngine, testEngine } from "../support/docker.ts";
import { runOps, Sink, sampleRequest, scriptOf, source } from "../support/executor-kit.ts";
import { imageOfJob as image, standOfSuite, type Table, TIMEOUT_MS } from "./docker-stand.ts";

/** The operator names the users that a job may have; no field of a job's image allows another one, on either engine. */
for (const kind of ["docker", "podman"] as const) {
  const engine = await testEngine(kind);
  describe(`a job's user on ${kind}`, () => {
    if (engine === null) {
      test.skip(noEngine(kind), () => {});
      return;
    }
    const { docker } = engine;
    const stand = standOfSuite(engine, ["sh", "git", "user", "hostile", "setuid"]);
    const it = (title: string, body: () => Promise<void>): void => test(title, body, TIMEOUT_MS);

    function directory(): string {
      const dir = mkdtempSync(join(tmpdir(), "alloy-root-"));
      onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
      chmodSync(dir, 0o755);
      return dir;
    }
    async function prepared(
      table: Table,
      jobImage: NonNullable<Job["image"]>,
      services: Job["services"] = [],
      chosen?: string,
    ): Promise<{ environment: Environment; notes: string }> {
      const executor = stand().open(table, { killGraceMs: 300 });
      onTestFinished(() => executor.close(never));
      const notes = new Sink();
      const request = { ...sampleRequest(), chosenRoot: () => chosen ?? null };
      const environment = await executor.prepare(
        { ...request, job: { ...request.job, image: jobImage, services } },
        notes,
        never,
      );
      onTestFinished(() => environment.destroy(never));
      return { environment, notes: notes.text };
    }
    const inHelper = async (environment: Environment, ...lines: string[]): Promise<string> => {
      const output = new Sink();
      await environment.run({ ...scriptOf(environment, source(...lines)), runIn: "helper" }, output, never);
      return output.text.replace("the-proof\n", "");
    };

    it("nothing of its image runs as root, whatever becomes of its scripts", async () => {
      const seen = directory();
      chmodSync(seen, 0o777);
      const table = { user: "1000", volumes: [`${seen}:/seen`], memory: "64m", memory_swap: "64m" };
      const { environment } = await prepared(table, image("hostile"));
      const { root } = environment.workspace;
      expect(await inHelper(environment, "id -u", `stat -c %u ${root}`)).toBe("1000\n1000\n");
      expect((await runOps(environment, source("busybox id -u", `touch ${root}/here`, "exit 3"))).text).toBe("1000\n");
      expect((await runOps(environment, source("busybox kill -9 $$"))).signal).toBe("SIGKILL");
      expect((await runOps(environment, source("busybox sleep 600 & exit 1"))).text).toContain("left a process");
      const stop = new AbortController();
      const output = new Sink();
      const running = runOps(
        environment,
        source("trap 'echo goodbye; exit' TERM", "busybox sleep 601 & echo ready; wait"),
        { output, signal: stop.signal },
      );
      running.catch(() => {});
      await output.until(/ready/);
      stop.abort(new Error("enough"));
      await expect(running).rejects.toThrow("enough");
      expect(output.text).toContain("goodbye");
      expect((await runOps(environment, source("echo after"))).text).toBe("after\n");
      expect(
        (await environment.workspace.list({ globs: ["here"], exclude: [], untracked: false }, never)).paths,
      ).toEqual(["here"]);
      const [container] = await docker.listContainers({
        filters: { label: ["alloy-runner.role=build", `com.gitlab.gitlab-runner.runner.id=${stand().runner()}`] },
      });
      const labels = container?.Labels ?? {};
      const { "alloy-runner.slot": slot, "alloy-runner.tidies": tidies, "alloy-runner.unknown": unknown } = labels;
      expect({ slot, tidies, unknown }).toEqual({ slot: "", tidies: "", unknown: "" });
      await environment.destroy(never);
      expect(existsSync(join(seen, "root")) ? readFileSync(join(seen, "root"), "utf8") : "").toBe("");
    });

    it("an image that is root's and says that it is somebody else decides nothing in the helper", async () => {
      const lying = [
        "sh",
        "-c",
        'mkdir -p /usr/local/bin; printf "#!/bin/sh\\necho 4242\\n" >/usr/local/bin/id; chmod 755 /usr/local/bin/id; exec "$@"',
        "-",
      ];
      const { environment, notes } = await prepared({}, image("sh", { entrypoint: lying }));
      expect(await inHelper(environment, "id -u", `stat -c %u ${environment.workspace.root}`)).toBe("0\n0\n");
      expect(notes).toContain("WARNING");
    });

    it("an ENTRYPOINT that gives root up works in a checkout of its own", async () => {
      const dropping = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups"];
      const { environment } = await prepared({ volumes: ["/cache"] }, image("git", { entrypoint: dropping }));
      const { root, tmpDir } = environment.workspace;
      const script = source("id -u", `touch ${root}/x ${tmpDir}/y /cache/z`, `stat -c '%u %a' ${root} ${tmpDir}`);
      expect((await runOps(environment, script)).text).toBe("1000\n1000 755\n1000 700\n");
      expect(await inHelper(environment, "id -u")).toBe("1000\n");
    });

    it("a chosen directory of the host is the user's where the runner made it, and nobody else's becomes so", async () => {
      const builds = directory();
      mkdirSync(join(builds, "theirs"));
      writeFileSync(join(builds, "theirs", "file"), "");
      const table = { user: "1000", volumes: [`${builds}:/builds`] };
      const { environment } = await prepared(table, image("git"), [], "/builds/0/app");
      const made = await runOps(
        environment,
        source("touch /builds/0/app/x", "stat -c %u /builds /builds/0 /builds/0/app"),
      );
      expect(made.text).toBe("0\n1000\n1000\n");
      await expect(prepared(table, image("git"), [], "/builds/theirs")).rejects.toMatchObject({
        reason: "runner_configuration_error",
      });
      expect([statSync(join(builds, "theirs")).uid, statSync(join(builds, "theirs", "file")).uid]).toEqual([0, 0]);
      const dropping = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups"];
      const dropped = prepared(
        { volumes: table.volumes },
        image("git", { entrypoint: dropping }),
        [],
        "/builds/theirs",
      );
      await expect(dropped).rejects.toThrow(
        /GIT_CLONE_PATH is "\/builds\/theirs", which cannot be given to the job's user/,
      );
      expect(statSync(join(builds, "theirs", "file")).uid).toBe(0);
    });

    for (const dropped of ["FOWNER", "ALL"]) {
      it(`with cap_drop = ["${dropped}"] the places are the user's all the same, and a later job's`, async () => {
        const table = { cap_drop: [dropped], volumes: ["/cache"] };
        const script = (root: string, tmpDir: string) =>
          source(
            "id -u; grep CapEff /proc/self/status | tr -d '\\t'",
            `mkdir -p ${root}/own && chmod 700 ${root}/own`,
            `touch ${root}/x ${tmpDir}/y /cache/$(id -u)`,
            `stat -c '%u %a' ${root} ${tmpDir}`,
          );
        for (const user of ["1000", "1001"]) {
          const { environment } = await prepared({ ...table, user }, image("git"));
          const { root, tmpDir } = environment.workspace;
          const expected = `${user}\nCapEff:0000000000000000\n${user} 755\n${user} 700\n`;
          expect((await runOps(environment, script(root, tmpDir))).text).toBe(expected);
          await environment.destroy(never);
        }
      });
    }

    it('with cap_drop = ["FOWNER"] an ENTRYPOINT may give root up', async () => {
      const dropping = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups"];
      const { environment } = await prepared({ cap_drop: ["FOWNER"] }, image("git", { entrypoint: dropping }));
      const { root, tmpDir } = environment.workspace;
      const script = source("id -u", `touch ${root}/x ${tmpDir}/y`, `stat -c '%u %a' ${root} ${tmpDir}`);
      expect((await runOps(environment, script)).text).toBe("1000\n1000 755\n1000 700\n");
    });

    it("an ENTRYPOINT that stays root leaves the private directory as it should be", async () => {
      const { environment } = await prepared({}, image("git", { entrypoint: ["setpriv", "--clear-groups"] }));
      const { tmpDir } = environment.workspace;
      const script = source("id -u", `stat -c '%u %a' ${tmpDir}`, `ls -d ${tmpDir}/started 2>&1 | grep -c '^/' || :`);
      expect((await runOps(environment, script)).text).toBe("0\n0 700\n0\n");
    });

    it("what takes more than the job's rights to end ends with the container", async () => {
      // The job starts as root, as a setuid program could, where the operator allows that.
      const { environment } = await prepared(
        {},
        image("git", { entrypoint: ["setpriv", "--reuid", "1000", "--regid", "1000", "--keep-groups"] }),
      );
      const [container] = await docker.listContainers({
        filters: { label: ["alloy-runner.role=build", `com.gitlab.gitlab-runner.runner.id=${stand().runner()}`] },
      });
      const stop = new AbortController();
      const output = new Sink();
      const running = runOps(environment, source("echo ready; sleep 600"), { output, signal: stop.signal });
      running.catch(() => {});
      await output.until(/ready/);
      const exec = await docker.getContainer(container?.Id ?? "").exec({ Cmd: ["sleep", "602"], User: "0" });
      await exec.start({ Detach: true });
      stop.abort(new Error("enough"));
      await expect(running).rejects.toThrow("enough");
      const { text } = await runOps(
        environment,
        source("cat /proc/[0-9]*/comm | sort | uniq -c | grep -c 'sleep'; echo after"),
      );
      // The process that is left is the new one that the container's first shell waits for.
      expect(text).toBe("1\nafter\n");
    });

    it("a setuid program makes no root, unless security_opt says so", async () => {
      const { environment } = await prepared({ user: "builder" }, image("setuid"));
      expect((await runOps(environment, source("id -u"))).text).toBe("1000\n");
      const open = await prepared({ user: "builder", security_opt: ["no-new-privileges=false"] }, image("setuid"));
      expect((await runOps(open.environment, source("id -u"))).text).toBe("0\n");
    });

    it("a name is who the image's passwd says, and root only where it is called so", async () => {
      for (const [table, user, expected] of [
        [{ user: "builder" }, null, "1000:1000"],
        [{ user: "7" }, null, "7:0"],
        [{ allowed_users: ["builder"] }, "builder", "1000:1000"],
        [{ user: "root" }, null, "0:0"],
      ] as const) {
        stand().newRunner();
        const { environment } = await prepared(table, image("sh", { user }));
        const { root } = environment.workspace;
        const { text } = await runOps(environment, source('echo "$(id -u):$(id -g)"', `stat -c %u:%g ${root}`));
        expect(text, JSON.stringify(table)).toBe(`${expected}\n${expected}\n`);
        await environment.destroy(never);
      }
      const failureOf = async (table: Table, user: string | null): Promise<unknown> =>
        await prepared(table, image("hostile", { user })).catch((error: unknown) => error);
      for (const [table, user] of [
        [{ user: "sneaky" }, null],
        [{ allowed_users: ["sneaky"] }, "sneaky"],
      ] as const) {
        const failure = await failureOf(table, user);
        expect(failure).toBeInstanceOf(ScriptFailure);
        expect(String(failure)).toMatch(/"sneaky" is root/);
      }
      const sneaky = { ...image("hostile", { user: "sneaky" }), aliases: ["sneaky"], command: null, variables: [] };
      const rules = { allowed_users: ["sneaky"], user: "1000" };
      const service = await prepared(rules, image("sh"), [sneaky]).catch((error: unknown) => error);
      expect(service).toBeInstanceOf(ScriptFailure);
      expect(String(service)).toMatch(/"sneaky" is root .* allowed_users/);
      const unknown = await failureOf({ user: "nobody-here" }, null);
      expect(unknown).toBeInstanceOf(SystemFailure);
      expect(unknown).toMatchObject({ retry: false, reason: "runner_configuration_error" });
      expect(String(unknown)).toMatch(/does not know the user "nobody-here", which user in \[runners.docker\] names/);
    });

    it("the user stays the same when the job changes its image's passwd", async () => {
      const { environment } = await prepared({}, image("user", { user: "builder" }));
      expect((await runOps(environment, source("id -u"))).text).toBe("1000\n");
      const [container] = await docker.listContainers({
        filters: { label: ["alloy-runner.role=build", `com.gitlab.gitlab-runner.runner.id=${stand().runner()}`] },
      });
      expect((await docker.getContainer(container?.Id ?? "").inspect()).Config.User).toBe("1000:1000");
    });

    it("no link in a directory of the host leads the runner's root elsewhere, however it is moved", async () => {
      const dir = directory();
      for (const name of ["builds", "secret", "secret/project"]) mkdirSync(join(dir, name));
      chmodSync(join(dir, "secret"), 0o700);
      writeFileSync(join(dir, "secret/project/file"), "x", { mode: 0o600 });
      const table = { user: "1000:1000", volumes: [`${dir}/builds:/builds`, `${dir}/secret:/secret`] };
      const first = await prepared(table, image("user"));
      // Another job of the same account owns the directories on the way, and moves them as fast as it can.
      const places = "/builds/*/1";
      const loop = `while :; do for d in ${places}; do cd $d && mv group away && ln -s /secret group && rm group && mv away group; done; done`;
      const stop = new AbortController();
      const busy = runOps(first.environment, source(`{ ${loop}; } 2>/dev/null`), { signal: stop.signal });
      busy.catch(() => {});
      const planting = `for d in ${places}; do cd $d && mv group away && ln -s /secret group; done 2>/dev/null; cd /; exec "$@"`;
      let worked = 0;
      for (let round = 0; round < 4; round++) {
        const entrypoint = round % 2 === 0 ? ["sh", "-c", planting, "-"] : null;
        try {
          const { environment } = await prepared(table, image("user", { entrypoint }));
          worked++;
          await environment.destroy(never);
        } catch (error) {
          expect(String(error)).toMatch(/set up/);
        }
        for (const [path, mode] of [
          ["secret", 0o700],
          ["secret/project", 0o755],
          ["secret/project/file", 0o600],
        ] as const) {
          const found = statSync(join(dir, path));
          expect([path, found.uid, found.mode & 0o777]).toEqual([path, 0, mode]);
        }
      }
      expect(worked).toBeGreaterThan(0);
      stop.abort(new Error("enough"));
      await expect(busy).rejects.toThrow("enough");
    });

    it("what is another user's in the checkout is given over without following links", async () => {
      const dir = directory();
      mkdirSync(join(dir, "builds"));
      mkdirSync(join(dir, "secret"), { mode: 0o700 });
      const table = { volumes: [`${dir}/builds:/builds`, `${dir}/secret:/secret`] };
      const first = await prepared(table, image("git"));
      const { root } = first.environment.workspace;
      await runOps(
        first.environment,
        source(`mkdir -p ${root}/a/b; touch ${root}/a/b/file "${root}/a/ odd\nname"; ln -s /secret ${root}/a/link`),
      );
      await first.environment.destroy(never);
      const { environment } = await prepared({ ...table, user: "1000:1000" }, image("git"));
      const { text } = await runOps(
        environment,
        source(`find ${root} ! -user 1000 | wc -l; rm -r ${root}/a && echo gone`),
      );
      expect(text).toBe("0\ngone\n");
      expect(statSync(join(dir, "secret")).uid).toBe(0);
    });

    it("without a helper image all is the job's user's work, in its own image", async () => {
      const seen = directory();
      chmodSync(seen, 0o777);
      for (const [table, uid] of [
        [{}, 0],
        [{ user: "1000:1000" }, 1000],
        [{ user: "1000:1000", volumes: [`${seen}:/builds`] }, 1000],
      ] as const) {
        stand().newRunner();
        for (const round of ["first", "second"]) {
          const { environment, notes } = await prepared({ ...table, helper_image: "" }, image("git"));
          expect(notes).toContain("Using git of the job's own image");
          const { root, tmpDir } = environment.workspace;
          const script = [
            `ls -A ${root} ${tmpDir} | grep -c kept || :`,
            `touch ${root}/kept ${tmpDir}/kept`,
            "id -u",
            `stat -c %u ${root} ${tmpDir}`,
            `stat -c %a ${tmpDir}`,
          ];
          const text = await inHelper(environment, ...script);
          expect(text).toBe(`${round === "first" ? 0 : 1}\n${uid}\n${uid}\n${uid}\n700\n`);
          await environment.destroy(never);
        }
      }
    });

    it("the helper is made from the id that its name stood for, whatever the name stands for later", async () => {
      const repo = `docker.io/alloy-test/moving-${stand().runner()}`;
      await docker.getImage(imageName("git")).tag({ repo, tag: "1" });
      const { Id } = await docker.getImage(imageName("git")).inspect();
      onTestFinished(async () => void (await docker.getImage(`${repo}:1`).remove()));
      const executor = stand().open({ helper_image: `${repo}:1` });
      onTestFinished(() => executor.close(never));
      // The tag is moved as soon as its image is known, which is printed before any container is made.
      const notes = new Sink();
      const preparing = executor.prepare(sampleRequest(), notes, never);
      preparing.catch(() => {});
      await notes.until(/moving-/);
      await docker.getImage(imageName("sh")).tag({ repo, tag: "1" });
      const environment = await preparing;
      onTestFinished(() => environment.destroy(never));
      const [helper] = await docker.listContainers({
        filters: { label: ["alloy-runner.role=helper", `com.gitlab.gitlab-runner.runner.id=${stand().runner()}`] },
      });
      const plain = (id: string): string => id.replace(/^sha256:/, "");
      expect(plain((await docker.getContainer(helper?.Id ?? "").inspect()).Image)).toBe(plain(Id));
    });

    it("the host's name and the job's network are the build container's, too", async () => {
      const { environment } = await prepared(
        { hostname: "the-host", extra_hosts: ["somewhere:10.9.8.7"] },
        image("git"),
      );
      expect((await runOps(environment, source("hostname; grep -c somewhere /etc/hosts"))).text).toBe("the-host\n1\n");
    });
  });
}
