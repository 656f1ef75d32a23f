import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { basename, join } from "node:path";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { openHostKeys } from "../../executors/virtual-machine/host-key.ts";
import { ScriptFailure, Stop, SystemFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Executor } from "../../src/executor/executor.ts";
import { never } from "../../src/time.ts";
import { cutSessions, throughCuts, WHOLE } from "../support/cuts.ts";
import { runOps, Sink, sampleRequest, source } from "../support/executor-kit.ts";
import { sampleJob } from "../support/job.ts";
import type { Hypervisor } from "../support/machines/machines.ts";
import { type MachineStand, openMachineStand } from "./machine-stand.ts";

export interface Verbs {
  readonly hypervisor: Hypervisor;
  readonly title: string;
  readonly version: string;
  /** What the program is called with, as the stand-in names it. */
  readonly look: string;
  readonly clone: string;
  readonly start: string;
  readonly snapshot: string;
  readonly restore: string;
  readonly off: string;
  readonly remove: string;
  /** Matches a call that makes the snapshot or template that copies are made of. */
  readonly source: RegExp;
  /** Changes the base, so that older copies are of no use. */
  change(stand: MachineStand): void;
}

/** Tests of jobs in copies of a machine, whichever program makes these. */
export function machineSuite(verbs: Verbs): void {
  const { hypervisor, title } = verbs;
  describe(`${title}: copies of a virtual machine`, { timeout: 120_000 }, () => {
    let stand: MachineStand;
    beforeEach(() => {
      stand = openMachineStand(hypervisor, verbs.version);
    });
    afterEach(() => stand.close());

    const opened = (...args: Parameters<MachineStand["open"]>): Executor => {
      const executor = stand.open(...args);
      onTestFinished(() => executor.close(never));
      return executor;
    };
    const jobIn = async (executor: Executor, notes = new Sink(), request = sampleRequest()): Promise<Environment> =>
      await executor.prepare(request, notes, never);
    const wholeJob = async (executor: Executor, text: string, notes = new Sink()): Promise<string> => {
      const environment = await jobIn(executor, notes);
      try {
        return (await runOps(environment, source(text))).text;
      } finally {
        await environment.destroy(never);
      }
    };
    const failed = async (executor: Executor, request = sampleRequest()): Promise<unknown> =>
      await executor.prepare(request, new Sink(), never).then(
        () => "it did not fail",
        (error: unknown) => error,
      );
    const count = (pattern: RegExp): number => stand.calls().filter((call) => pattern.test(call)).length;
    const clones = (): number => stand.calls().filter((call) => /-runner-.* begins$/.test(call)).length;
    const kept = (): string[] => readdirSync(join(stand.dir, "keep")).filter((name) => name.includes("-machine-"));

    test("a machine stays for the next job, which finds what every job finds", async () => {
      const executor = opened();
      const notes = new Sink();
      expect(await wholeJob(executor, "touch ~/left /tmp/left; ls ~ /tmp; hostname", notes)).toBe(
        "/root:\nbuilds\nleft\n\n/tmp:\nleft\nguest\n",
      );
      expect(notes.text).toMatch(
        /^Made the virtual machine Debian -12- base-runner-0a1b2c3d-concurrent-0-[0-9a-f]{8} of /m,
      );
      expect(stand.running()).toEqual([]);
      const [copy = ""] = stand.copies();
      const again = new Sink();
      expect(await wholeJob(executor, "ls ~ /tmp", again)).toBe("/root:\nbuilds\n\n/tmp:\n");
      expect(again.text).toBe("");
      expect(stand.copies()).toEqual([copy]);
      expect(clones()).toBe(1);
      expect(stand.running()).toEqual([]);
      // Another process of the same runner knows the machine, too.
      await wholeJob(opened(), "true");
      expect(stand.copies()).toEqual([copy]);
    });

    test("jobs at the same time have a machine each, and take the lowest that is free", async () => {
      const executor = opened();
      const one = await jobIn(executor);
      const two = await jobIn(executor);
      expect([one.projectSlot, two.projectSlot]).toEqual([0, 1]);
      const other = await jobIn(executor, new Sink(), sampleRequest("group/other", "8"));
      expect(other.projectSlot).toBe(0);
      expect(stand.running()).toHaveLength(3);
      for (const each of [one, two, other]) await each.destroy(never);
      expect(stand.running()).toEqual([]);
      await wholeJob(executor, "true");
      expect(stand.copies()).toHaveLength(3);
    });

    test("with disable_snapshots, and for exec, each job has a copy of its own that goes with it", async () => {
      for (const executor of [opened({ disable_snapshots: true }), opened({}, { ephemeral: true })]) {
        await wholeJob(executor, "touch ~/left");
        expect(await wholeJob(executor, "ls ~")).toBe("builds\n");
        expect(stand.copies()).toEqual([]);
        expect(kept()).toEqual([]);
      }
      expect(clones()).toBe(4);
    });

    test("a base that has changed gives new copies, and the old one goes", async () => {
      const executor = opened();
      await wholeJob(executor, "true");
      const [before = ""] = stand.copies();
      verbs.change(stand);
      const notes = new Sink();
      await wholeJob(executor, "true", notes);
      expect(notes.text).toContain(`has changed: the virtual machine ${before} is made anew`);
      expect(stand.copies()).toHaveLength(1);
      expect(stand.copies()).not.toEqual([before]);
    });

    test("a machine that cannot be taken back is made anew, and the trace says why", async () => {
      const executor = opened();
      await wholeJob(executor, "true");
      const [before = ""] = stand.copies();
      stand.fault(verbs.restore, "status 1", 1);
      const notes = new Sink();
      expect(await wholeJob(executor, "echo works", notes)).toBe("works\n");
      expect(notes.text).toContain(
        `WARNING: The virtual machine ${before} cannot be used again, and is made anew: Cannot`,
      );
      expect(stand.copies()).toHaveLength(1);
      expect(stand.copies()).not.toEqual([before]);
    });

    test("a machine that somebody has removed is made anew", async () => {
      const executor = opened();
      await wholeJob(executor, "true");
      stand.forget(stand.copies()[0] ?? "");
      expect(await wholeJob(executor, "echo works")).toBe("works\n");
      expect(stand.copies()).toHaveLength(1);
    });

    test("nothing of other people's machines is touched, whatever they are called", async () => {
      const names = ["Debian -12- base-runner-0a1b2c3d-concurrent-0", "mine", `${stand.base.name}-template`];
      const others = names.map((name) => ({ name, id: stand.add(name) }));
      // The name of a template must not be that of something else.
      const table = hypervisor === "parallels" ? { template_name: "own template" } : {};
      const shape = (name: string): string =>
        readdirSync(stand.pathOf(name), { recursive: true, encoding: "utf8" }).sort().join("\n");
      const before = names.map(shape);
      await wholeJob(opened(table), "true");
      await wholeJob(opened({ ...table, disable_snapshots: true }), "true");
      expect(names.map(shape)).toEqual(before);
      for (const { name, id } of others)
        expect(stand.calls().join("\n")).not.toMatch(new RegExp(`${id}|${name}$`, "m"));
    });

    describe.each([
      ["copying", () => ({ verb: verbs.clone, how: "hang" })],
      ["starting", () => ({ verb: verbs.start, how: "hang" })],
      ["booting", () => ({ verb: "boot", how: "never" })],
      ["making the snapshot", () => ({ verb: verbs.snapshot, how: "hang" })],
      ["looking, and it ignores that", () => ({ verb: verbs.look, how: "stubborn" })],
    ])("canceled while %s", (_phase, faultOf) => {
      test("it ends at once, with all that was made", async () => {
        const { verb, how } = faultOf();
        if (verb === "boot") stand.set("boot", how);
        else stand.fault(verb, how);
        const stop = new AbortController();
        const executor = opened();
        const preparing = executor.prepare(sampleRequest(), new Sink(), stop.signal);
        const reason = new Stop("canceled", "canceled by the test");
        preparing.catch(() => {});
        await expect
          .poll(
            () => (verb === "boot" ? stand.running().length > 0 : stand.calls().some((call) => call.startsWith(verb))),
            {
              timeout: 60_000,
            },
          )
          .toBe(true);
        stand.fault(verb, null);
        stop.abort(reason);
        await expect(preparing).rejects.toBe(reason);
        expect(stand.copies()).toEqual([]);
        expect(kept()).toEqual([]);
        await expect.poll(() => stand.processes()).toEqual([]);
      });
    });

    test("canceled while it is taken back, a machine is off and serves the next job", async () => {
      const executor = opened();
      await wholeJob(executor, "true");
      const [copy] = stand.copies();
      stand.fault(verbs.restore, "hang");
      const stop = new AbortController();
      const reason = new Stop("canceled", "canceled by the test");
      const before = count(new RegExp(verbs.restore));
      const preparing = executor.prepare(sampleRequest(), new Sink(), stop.signal);
      preparing.catch(() => {});
      await expect.poll(() => count(new RegExp(verbs.restore)), { timeout: 60_000 }).toBeGreaterThan(before);
      stop.abort(reason);
      await expect(preparing).rejects.toBe(reason);
      stand.fault(verbs.restore, null);
      expect(stand.running()).toEqual([]);
      await wholeJob(executor, "true");
      expect(stand.copies()).toEqual([copy]);
    });

    test.each([
      ["clone", /^Cannot copy the virtual machine "Debian "12" base": .*ended with status \d+\)\. \S/],
      ["start", /^Cannot start the virtual machine "Debian -12- base-runner-.*ended with status \d+\)\. See in/],
      ["snapshot", /^Cannot make a snapshot of the virtual machine "Debian.*ended with status \d+\)\. See whether/],
    ] as const)(
      "a %s that fails says which machine, which command and what to do; nothing is left",
      async (verb, text) => {
        stand.set("prepared", "");
        await opened()
          .prepare(sampleRequest(), new Sink(), never)
          .then((environment) => environment.destroy(never));
        for (const copy of stand.copies()) stand.forget(copy);
        stand.fault(verbs[verb], "status 1");
        const error = await failed(opened());
        expect(error).toBeInstanceOf(SystemFailure);
        expect(String(error).replace(/^SystemFailure: /, "")).toMatch(text);
        expect(stand.copies()).toEqual([]);
        expect(stand.running()).toEqual([]);
        expect(kept()).toEqual([]);
      },
    );

    test("a machine that does not boot in time is named, with the key, and goes", async () => {
      stand.set("boot", "never");
      const startMs = performance.now();
      const error = await failed(opened({ boot_timeout: 3 }));
      expect(error).toMatchObject({ retry: true });
      expect(String(error)).toMatch(
        new RegExp(
          `in the virtual machine "Debian -12- base-runner-.* within 3 s \\(boot_timeout in \\[runners.${hypervisor}\\]\\)`,
        ),
      );
      expect(performance.now() - startMs).toBeLessThan(45_000);
      expect(stand.copies()).toEqual([]);
    });

    test("a machine that goes off while it boots is noticed, not waited for", async () => {
      stand.set("boot", "never");
      stand.fault("dies", "soon");
      const startMs = performance.now();
      const error = await failed(opened());
      expect(String(error)).toMatch(/while its sshd was waited for/);
      expect(performance.now() - startMs).toBeLessThan(60_000);
      expect(stand.copies()).toEqual([]);
    });

    test("with durable = true a lost connection ends no job", { timeout: 120_000 }, async () => {
      const environment = await jobIn(opened({}, { durable: true }));
      const pid = readFileSync(join(stand.pathOf(stand.running()[0] ?? ""), "run/pid"), "utf8");
      const { cuts, code, text } = await throughCuts(environment, () => cutSessions(Number(pid)));
      expect(cuts).toBeGreaterThan(3);
      expect([code, text]).toEqual([7, WHOLE]);
      await environment.destroy(never);
      expect(stand.running()).toEqual([]);
    });

    test.each([false, true])(
      "a machine that goes off in mid-job is what the failure says (durable: %s)",
      async (durable) => {
        const environment = await jobIn(opened({}, { durable }));
        const output = new Sink();
        const running = runOps(environment, source("echo ready; sleep 600"), { output });
        running.catch(() => {});
        await output.until(/^ready$/m);
        stand.unplug(stand.running()[0] ?? "");
        await expect(running).rejects.toThrow(/^The virtual machine "Debian .*" is \w+, in mid-job/);
        await environment.destroy(never);
      },
    );

    test("a program that lies or prints garbage fails the job with a sentence", async () => {
      stand.fault(verbs.look, "garbage");
      expect(String(await failed(opened()))).toMatch(/makes no sense|There is no virtual machine|Cannot /);
      stand.fault(verbs.look, null);
      stand.fault(verbs.clone, "lie");
      expect(String(await failed(opened()))).toMatch(/is not there/);
      expect(kept()).toEqual([]);
    });

    test("there is no base of this name: the sentence says where to look", async () => {
      const error = await failed(opened({ base_name: "no such" }));
      expect(error).toMatchObject({ retry: false, reason: "runner_configuration_error" });
      expect(String(error)).toMatch(/There is no virtual machine "no such" in/);
    });

    test("two runners that share a base make its source once, and copy it one after the other", async () => {
      stand.set("copying", "1");
      const executors = ["a", "b", "c"].map((name) => {
        mkdirSync(join(stand.dir, name));
        return opened({}, { keepDir: join(stand.dir, name) });
      });
      const environments = await Promise.all(executors.map((executor) => jobIn(executor)));
      expect(stand.running()).toHaveLength(3);
      expect(count(verbs.source)).toBe(1);
      expect(clones()).toBe(3);
      await Promise.all(environments.map((environment) => environment.destroy(never)));
      await Promise.all(executors.map((executor) => wholeJob(executor, "true")));
      expect(clones()).toBe(3);
    });

    test("the base's host key is learnt once; who has another one gets nothing", async () => {
      const executor = opened();
      await wholeJob(executor, "true");
      const file =
        readdirSync(join(stand.dir, "keep")).find((name) => name.startsWith(`${hypervisor}-host-key-`)) ?? "";
      const line = readFileSync(join(stand.pathOf(stand.base.name), "disk/etc/ssh/ssh_host_ed25519_key.pub"), "utf8");
      const digest = createHash("sha256")
        .update(Buffer.from(line.split(" ")[1] ?? "", "base64"))
        .digest("base64");
      const fingerprint = `SHA256:${digest.replace(/=+$/, "")}`;
      expect(readFileSync(join(stand.dir, "keep", file), "utf8")).toBe(`${fingerprint}\n`);
      writeFileSync(join(stand.dir, "keep", file), "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\n");
      const error = await failed(executor);
      expect(error).toMatchObject({ retry: false });
      expect(String(error)).toContain(`copies of the virtual machine "${stand.base.name}" have had SHA256:47DEQ`);
      expect(String(error)).toContain(`remove ${join(stand.dir, "keep", file)}`);
      expect(stand.running()).toEqual([]);
      // The operator's host key counts: with the wrong one the machine is refused.
      await wholeJob(opened({}, {}, { host_key_fingerprint: fingerprint }), "true");
      const wrong = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
      expect(String(await failed(opened({}, {}, { host_key_fingerprint: wrong })))).toMatch(/nothing was sent/);
    });

    // The other program lacks these features or has them in another form.
    if (hypervisor !== "virtualbox") return;

    test("one that boots slowly is waited for", async () => {
      stand.set("boot", "3");
      expect(await wholeJob(opened(), "echo up")).toBe("up\n");
    });

    test("a job may name another base where allowed_images lets it", async () => {
      stand.add("ubuntu-24.04");
      const wanting = (name: string) => {
        const request = sampleRequest();
        const image = { name, entrypoint: null, ports: [], pullPolicies: [], platform: null, user: null };
        return { ...request, job: { ...sampleJob({ dialect: "gitlab", timeoutMs: 60_000 }), image } };
      };
      const notes = new Sink();
      const plain = await opened().prepare(wanting("ubuntu-24.04"), notes, never);
      await plain.destroy(never);
      expect(notes.text).toMatch(/WARNING: The job names the image "ubuntu-24.04", and .* \(allowed_images in/);
      expect(stand.copies().every((name) => name.startsWith("Debian"))).toBe(true);
      const executor = opened({ allowed_images: ["^ubuntu-\\d+\\.\\d+$", "fedora"] });
      expect(executor.features.image).toBe(true);
      const environment = await executor.prepare(wanting("ubuntu-24.04"), new Sink(), never);
      await environment.destroy(never);
      expect(stand.copies().filter((name) => name.startsWith("ubuntu-24.04-runner-"))).toHaveLength(1);
      for (const name of ["ubuntu-24.04-evil", "my fedora", "-h"]) {
        const error = await failed(executor, wanting(name));
        expect(error, name).toBeInstanceOf(ScriptFailure);
      }
      expect(String(await failed(executor, wanting("my fedora")))).toMatch(/fits a part of it/);
      // A runner's own copy cannot be chosen, even where every image is allowed.
      const [copy = ""] = stand.copies();
      const error = await failed(opened({ allowed_images: [".*"] }), wanting(copy));
      expect(error).toBeInstanceOf(ScriptFailure);
      expect(String(error)).toContain("is another job's");
      const byId = await failed(opened({ allowed_images: [".*"] }), wanting(basename(stand.pathOf(copy))));
      expect(String(byId)).toMatch(/is another job's|There is no virtual machine/);
    });

    test("two copies that show different host keys at the same time are told from one another", async () => {
      const base = { id: "b", name: "base", source: null };
      const given = { fingerprints: [], knownHostsFiles: [], any: false };
      const at = { keepDir: join(stand.dir, "keep"), hypervisor, base, source: { identity: "s", name: "s" } };
      const [one, two] = [await openHostKeys(given, at), await openHostKeys(given, at)];
      one.policy.firstUse?.("SHA256:one");
      two.policy.firstUse?.("SHA256:two");
      await one.remember();
      await expect(two.remember()).rejects.toThrow(/have different host keys, SHA256:two and SHA256:one/);
    });

    test("a clock that is wrong is set; where it cannot be, the trace says how far it is off", async () => {
      const bin = join(stand.pathOf(stand.base.name), "disk/usr/local/bin");
      const lies = 'case "$*" in \'-u +%s\') [ -e /root/set ] && exec /bin/date "$@"; echo 1000000000; exit;; esac';
      writeFileSync(
        join(bin, "date"),
        `#!/bin/sh\n${lies}\ncase "$*" in *-s*) echo "$*" >/root/set;; *) exec /bin/date "$@";; esac\n`,
        {
          mode: 0o755,
        },
      );
      const notes = new Sink();
      const said = await wholeJob(opened(), "cat /root/set", notes);
      expect(said).toMatch(/^-u -s @\d{10}$/m);
      expect(notes.text).not.toContain("clock");
      verbs.change(stand);
      writeFileSync(join(bin, "date"), `#!/bin/sh\n${lies}\nexit 1\n`, { mode: 0o755 });
      stand.add("stopped clock");
      writeFileSync(join(stand.pathOf("stopped clock"), "disk/usr/local/bin/date"), `#!/bin/sh\n${lies}\nexit 1\n`, {
        mode: 0o755,
      });
      const more = new Sink();
      await wholeJob(opened({ base_name: "stopped clock" }), "true", more);
      expect(more.text).toMatch(/WARNING: The clock of the virtual machine is \d+ s behind, and could not be set: let/);
    });

    test("a place in use is nobody's twice, and machines nobody wants go after two weeks", async () => {
      const executor = opened();
      await wholeJob(executor, "true");
      const [file = ""] = kept();
      const path = join(stand.dir, "keep", file);
      writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), usedAt: 1 }));
      stand.add("another");
      const other = opened({ base_name: "another" });
      const environment = await jobIn(other);
      await environment.destroy(never);
      await other.close(never);
      await expect.poll(() => stand.copies().filter((name) => name.startsWith("Debian"))).toEqual([]);
      expect(stand.logged.join("\n")).toContain("removed a virtual machine that no job wants any more");
      expect(existsSync(path)).toBe(false);
    });

    test("a file that cannot be read costs no job; its machine is named, and the file kept", async () => {
      const executor = opened();
      await wholeJob(executor, "true");
      const [[file = ""], [lost = ""]] = [kept(), stand.copies()];
      writeFileSync(join(stand.dir, "keep", file), "{");
      const { left } = await executor.recover("k", [{ kind: "vm-job", file }], never);
      expect(left).toEqual([expect.stringContaining(`${file}, which says which machine that is, cannot be read`)]);
      expect(await wholeJob(executor, "echo works")).toBe("works\n");
      expect(kept().sort()).toEqual([file, `${file}.unreadable`]);
      const [, part = "?"] = /its name holds "([^"]+)"/.exec(stand.logged.join("\n").replaceAll('\\"', '"')) ?? [];
      expect(lost).toContain(part);
      expect(stand.copies()).toContain(lost);
    });

    test("a note that names a file elsewhere leads to nothing", async () => {
      const file = join(stand.dir, "elsewhere.json");
      writeFileSync(file, JSON.stringify({ name: stand.base.name, id: stand.base.id, jobKey: "k" }));
      const said = await opened().recover("k", [{ kind: "vm-job", file }], never);
      expect(said).toEqual({ done: [], left: [] });
      expect(existsSync(file)).toBe(true);
    });

    test("a port that has been taken meanwhile does not matter", async () => {
      const executor = opened();
      await wholeJob(executor, "true");
      const rules = readFileSync(join(stand.pathOf(stand.copies()[0] ?? ""), "rules"), "utf8");
      const port = Number(/127\.0\.0\.1,(\d+),/.exec(rules)?.[1] ?? 0);
      const server = createServer((socket) => socket.destroy()).listen(port, "127.0.0.1");
      onTestFinished(() => void server.close());
      const notes = new Sink();
      expect(await wholeJob(executor, "echo works", notes)).toBe("works\n");
      expect(notes.text).toBe("");
    });
  });
}
