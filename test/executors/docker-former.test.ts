import { createHash, randomBytes } from "node:crypto";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Environment } from "../../src/executor/environment.ts";
import type { Trust } from "../../src/job/job.ts";
import { formerNames } from "../../src/job/life/preparation/former-names.ts";
import { never } from "../../src/time.ts";
import { imageName, noEngine, testEngine } from "../support/docker.ts";
import { runOps, Sink, sampleRequest, source } from "../support/executor-kit.ts";
import { ownTrust } from "../support/job.ts";
import { standOfSuite, TIMEOUT_MS } from "./docker-stand.ts";

const md5 = (text: string): string => createHash("md5").update(text).digest("hex");

test("names are those that GitLab Runner and the Go runner give what they keep", () => {
  const entry = { token: "glrt-AbCdEfGhIjKlMnOpQrSt", shortToken: "AbCdEfGhI" };
  expect(formerNames(entry, { projectId: "7", slot: 1, systemId: "s_1" })).toEqual([
    `runner-${createHash("sha256").update("glrt-AbCdEfGhIjKlMnOpQrSt-s_1-7-1").digest("hex").slice(0, 32)}`,
    "runner-AbCdEfGhI-project-7-concurrent-1",
    "runner-AbCdEfGh-project-7-concurrent-1",
    "runner-abcdefghi-project-7-concurrent-1",
    "runner-abcdefgh-project-7-concurrent-1",
  ]);
  expect(formerNames({ token: "short", shortToken: "" }, { projectId: "7", slot: 0 })).toEqual([]);
});

/** An upgraded host: what another runner of the family has kept at the engine is found, used on, and never changed unasked. */
for (const kind of ["docker", "podman"] as const) {
  const engine = await testEngine(kind);
  describe(`what another runner has kept at ${kind}`, () => {
    if (engine === null) {
      test.skip(noEngine(kind), () => {});
      return;
    }
    const { docker } = engine;
    const stand = standOfSuite(engine, ["git"]);

    async function prepared(
      names: (slot: number) => string[],
      trust: Trust = ownTrust,
    ): Promise<Environment & { said: string; jobKey: string }> {
      // Another process, or a minute, sees what is there now.
      const executor = stand().open({ volumes: ["/kept"] }, { killGraceMs: 300 });
      onTestFinished(() => executor.close(never));
      const notes = new Sink();
      const request = { ...sampleRequest("group/project", "7", trust), formerNames: names };
      const environment = await executor.prepare(request, notes, never);
      onTestFinished(() => environment.destroy(never));
      return { ...environment, said: notes.text, jobKey: request.jobKey };
    }
    /** A container of theirs with a volume at this path, in which it runs a script; it stays, stopped. */
    async function made(name: string, path: string, script: string, volume: string | null): Promise<void> {
      const container = await docker.createContainer({
        name,
        Image: imageName("git"),
        Entrypoint: ["sh", "-c", script],
        ...(volume === null ? { Volumes: { [path]: {} } } : {}),
        HostConfig: { NetworkMode: "none", ...(volume === null ? {} : { Binds: [`${volume}:${path}`] }) },
      });
      onTestFinished(async () => void (await container.remove({ v: true, force: true })));
      await container.start();
      expect(await container.wait()).toMatchObject({ StatusCode: 0 });
    }
    async function volume(name: string, path: string, script: string): Promise<void> {
      await docker.createVolume({ Name: name });
      onTestFinished(async () => void (await docker.getVolume(name).remove({ force: true })));
      await made(`fill-${randomBytes(6).toString("hex")}`, path, script, name);
    }
    /** Since then, for this job. */
    async function containersMade(jobKey: string, since: number): Promise<number> {
      const filters = JSON.stringify({ type: ["container"], event: ["create"] });
      const stream = await docker.getEvents({ since, until: Date.now() / 1000, filters });
      let text = "";
      for await (const piece of stream) text += String(piece);
      return text.split("\n").filter((line) => line.includes(jobKey)).length;
    }
    async function read(environment: Environment, path: string): Promise<{ text: string; from: string } | null> {
      await using found = (await environment.formerCache?.(path, never)) ?? null;
      if (found === null) return null;
      const pieces: Buffer[] = [];
      for await (const piece of found.content) pieces.push(Buffer.from(piece));
      const whole = Buffer.concat(pieces);
      expect(whole.length).toBe(found.bytes);
      return { text: whole.toString().slice(0, 10), from: found.from };
    }

    test(
      "archives are read from its volumes and containers, those of protected refs apart, and its volumes are used on",
      async () => {
        const base = `runner-${randomBytes(6).toString("hex")}`;
        const names = (slot: number): string[] => [`${base}-slot-${slot}`];
        const caches = md5("/cache");
        const put = (key: string, text: string): string =>
          `mkdir -p /cache/group/project/${key} && printf '${text}%1000000s' x >/cache/group/project/${key}/cache.zip`;
        const link = "mkdir -p /cache/group/project/link && ln -s /etc/passwd /cache/group/project/link/cache.zip";
        await volume(`${base}-slot-1-cache-${caches}`, "/cache", `${put("a", "in volume")} && ${link}`);
        await volume(`${base}-slot-0-cache-${caches}-protected`, "/cache", put("b", "protected"));
        await volume(`${base}-slot-0-cache-${md5("/kept")}`, "/kept", "echo kept >/kept/file");
        await made(`${base}-slot-2-cache-${caches}`, "/cache", put("c", "container"), null);

        const own = await prepared(names);
        expect(own.said).toContain("Using what another runner has kept of /kept");
        expect((await runOps(own, source("cat /kept/file; echo more >/kept/more; ls /builds"))).text).toBe(
          "kept\ngroup\n",
        );
        expect(await read(own, "group/project/a/cache.zip")).toEqual({
          text: "in volume ",
          from: "slot 1 of another runner",
        });
        expect(await read(own, "group/project/c/cache.zip")).toEqual({
          text: "container ",
          from: "slot 2 of another runner",
        });
        for (const key of ["b", "link", "none"])
          expect(await read(own, `group/project/${key}/cache.zip`), key).toBeNull();
        // One container looks at all volumes, and what is nowhere is not looked for again.
        await volume(`${base}-slot-3-cache-${caches}`, "/cache", put("d", "late"));
        const later = await prepared(names);
        const readers = async (body: () => Promise<void>): Promise<number> => {
          const since = Date.now() / 1000;
          await body();
          return await containersMade(later.jobKey, since);
        };
        const miss = async (key: string): Promise<void> =>
          expect(await read(later, `group/project/${key}/cache.zip`)).toBeNull();
        // Podman's service keeps no events here.
        const once = kind === "docker" ? 1 : 0;
        expect(await readers(() => miss("none"))).toBe(once);
        expect(await readers(() => miss("none"))).toBe(0);
        expect(await readers(() => miss("other"))).toBe(once);
        expect(await read(later, "group/project/d/cache.zip")).toMatchObject({ from: "slot 3 of another runner" });
        await later.destroy(never);
        await own.destroy(never);
        expect(await stand().leftovers()).toEqual([]);

        const guarded = await prepared(names, { level: "protected", source: "" });
        expect(guarded.said).not.toContain("another runner");
        expect(await read(guarded, "group/project/b/cache.zip")).toMatchObject({ text: "protected " });
        expect(await read(guarded, "group/project/a/cache.zip")).toBeNull();
        const fork = await prepared(names, { level: "fork", source: "f" });
        expect(fork.formerCache).toBeUndefined();
      },
      TIMEOUT_MS,
    );
  });
}
