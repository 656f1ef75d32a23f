import { createServer, type Server } from "node:http";
import type { Server as TcpServer } from "node:net";
import { tmpdir } from "node:os";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectEngine, type Engine } from "../../../executors/docker/engine/engine.ts";
import { createHelperImages } from "../../../executors/docker/image/helper-image.ts";
import { createImageSource, obtainImage } from "../../../executors/docker/image/pull.ts";
import { openLogins, type RegistryLogins } from "../../../executors/images/logins.ts";
import type { PullPolicy } from "../../../executors/images/policy.ts";
import { Stop, SystemFailure } from "../../../src/errors.ts";
import { deadline, never } from "../../../src/time.ts";
import { imageName, noEngine, type TestEngine, testEngine } from "../../support/docker.ts";
import { Sink } from "../../support/executor-kit.ts";
import { registryMissing, startRegistry, type TestRegistry } from "../../support/registry.ts";

const none = {
  jobConfig: undefined,
  entryConfig: undefined,
  operatorConfig: undefined,
  configDir: undefined,
  home: undefined,
  env: {},
  hide: () => undefined,
};

async function loginFor(registry: TestRegistry, password = registry.password): Promise<RegistryLogins> {
  const jobCredentials = [{ url: registry.address, username: registry.username, password }];
  return await openLogins({ ...none, jobCredentials });
}

const failureOf = async (promise: Promise<unknown>): Promise<SystemFailure> => {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof SystemFailure)) throw new Error(`expected a SystemFailure, found ${String(error)}`);
  return error;
};

function engineOf(found: TestEngine | null): TestEngine {
  if (found === null) throw new Error("there is no engine, and its tests are skipped");
  return found;
}

for (const kind of ["docker", "podman"] as const) {
  const found = await testEngine(kind);
  const missing = found === null ? noEngine(kind) : registryMissing();

  describe.skipIf(missing !== null)(`images from ${kind}${missing === null ? "" : ` (skipped: ${missing})`}`, () => {
    let engine: Engine;
    let registry: TestRegistry;
    let name = "";
    let notes = new Sink();

    const get = async (image: string, policies: readonly PullPolicy[], logins: RegistryLogins, platform?: string) => {
      notes = new Sink();
      const request = { name: image, policies, platform: platform ?? null, logins };
      return await obtainImage(engine, request, notes, never);
    };
    const forget = async (image: string): Promise<void> => {
      await found?.docker
        .getImage(image)
        .remove({ force: true })
        .catch(() => {});
    };

    beforeAll(async () => {
      if (found === null) return;
      const settings = { host: found.host, tlsCertPath: "", tlsVerify: false };
      engine = await connectEngine({ settings, env: {}, scratchDir: tmpdir() }, never);
      await found.images("sh", "user");
      registry = await startRegistry();
      name = await registry.push(found.docker, imageName("sh"), "team/app:1");
    });
    afterAll(async () => {
      await forget(name);
      await engine?.close();
      await registry?.close();
    });

    test("a pull with the job's credentials brings the image, and says whose login it was", async () => {
      await forget(name);
      const image = await get(name, ["always"], await loginFor(registry));
      expect(image.id).toMatch(/^sha256:[0-9a-f]{64}$/);
      expect(image).toMatchObject({ os: "linux", command: ["sh"], entrypoint: [] });
      expect(notes.text).toMatch(/^Pulling image .*team\/app:1, with the login of job credentials\n/);
      expect(notes.text).toMatch(/Pulled image .* in \d+\.\d s\n$/);
      expect(notes.text.split("\n").length).toBeLessThan(6);
      expect(notes.text).not.toContain(registry.password);
    });

    test("a wrong password is told from a missing login and from a missing image", async () => {
      await forget(name);
      const wrong = await failureOf(get(name, ["always"], await loginFor(registry, "not-this-one")));
      expect(wrong).toMatchObject({ reason: "image_pull_failure", retry: false });
      expect(wrong.message).toMatch(/with the login of job credentials.*wants another login|needs a login/);
      expect(wrong.message).not.toContain("not-this-one");
      const without = await failureOf(get(name, ["always"], await openLogins({ ...none, jobCredentials: [] })));
      expect(without).toMatchObject({ reason: "image_pull_failure", retry: false });
      expect(without.message).toMatch(/without a login/);
      const absent = await failureOf(get(`${registry.address}/team/app:nope`, ["always"], await loginFor(registry)));
      expect(absent).toMatchObject({ reason: "image_pull_failure", retry: false });
      expect(absent.message).toMatch(/no such image|does not exist/);
    });

    test("a refused login gives way to the next one", async () => {
      await forget(name);
      const logins = await openLogins({
        ...none,
        jobConfig: JSON.stringify({ auths: { [registry.address]: { username: registry.username, password: "old" } } }),
        jobCredentials: [{ url: registry.address, username: registry.username, password: registry.password }],
      });
      await get(name, ["always"], logins);
      expect(notes.text).toMatch(/login of DOCKER_AUTH_CONFIG of the job[\s\S]*login of job credentials/);
    });

    test("the helper image is the one with the digest, whatever its tag is now", async () => {
      const logins = await loginFor(registry);
      const tag = await registry.push(engineOf(found).docker, imageName("sh"), "team/helper:1");
      const { digests, id } = await get(tag, ["always"], logins);
      // Podman names each digest that the image ever had, also those that this registry never saw.
      const asked = await fetch(`http://${registry.address}/v2/team/helper/manifests/1`, {
        headers: {
          authorization: `Basic ${Buffer.from(`${registry.username}:${registry.password}`).toString("base64")}`,
          accept: "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json",
        },
        signal: AbortSignal.timeout(10_000),
      });
      const pinned = `${registry.address}/team/helper@${asked.headers.get("docker-content-digest")}`;
      expect(digests).toContain(pinned);
      await forget(tag);
      await registry.push(engineOf(found).docker, imageName("user"), "team/helper:1");
      const choose = async (helperImage: string | undefined, images = createHelperImages(pinned)) =>
        await images.choose(
          {
            settings: { helperImage, pullPolicies: ["always"] },
            expand: (text) => text,
            obtain: (wanted, signal) => obtainImage(engine, { ...wanted, logins }, notes, signal),
          },
          never,
        );
      expect(await choose(pinned)).toMatchObject({ in: "own", image: { id } });
      expect(await choose(undefined)).toMatchObject({ in: "own", image: { id } });
      const other = pinned.replace(/[0-9a-f]{64}$/, "0".repeat(64));
      const failure = await failureOf(choose(other));
      expect(failure.message).toMatch(/^helper_image of \[runners\.docker\]: /);
      const nameless = await failureOf(choose("No Name"));
      expect(nameless).toMatchObject({ reason: "runner_configuration_error", retry: false });
      expect(await choose(undefined, createHelperImages(other))).toMatchObject({ in: "build" });
      await forget(pinned);
      await forget(tag);
    });

    test("policies decide whether a local image counts", async () => {
      const logins = await loginFor(registry);
      await get(name, ["always"], logins);
      await get(name, ["never"], logins);
      expect(notes.text).toMatch(/is here already .*"never"/);
      await get(name, ["if-not-present"], logins);
      expect(notes.text).toMatch(/is here already/);
      await forget(name);
      const failure = await failureOf(get(name, ["never"], logins));
      expect(failure).toMatchObject({ retry: false, reason: "image_pull_failure" });
      expect(failure.message).toMatch(/pull policy "never"/);
      await get(name, ["never", "if-not-present"], logins);
      expect(notes.text).toMatch(/Trying pull policy "if-not-present"[\s\S]*Pulled image/);
    });

    test("with the registry away, always fails and a list falls back on the local image, and says so", async () => {
      const gone = "127.0.0.1:9/team/app:1";
      await found?.docker.getImage(imageName("sh")).tag({ repo: "127.0.0.1:9/team/app", tag: "1" });
      try {
        const logins = await loginFor(registry);
        const failure = await failureOf(get(gone, ["always"], logins));
        expect(failure).toMatchObject({ retry: true, reason: "runner_external_dependency_failure" });
        await get(gone, ["always", "if-not-present"], logins);
        expect(notes.text).toMatch(/cannot be reached\nTrying pull policy "if-not-present" instead\nUsing image/);
      } finally {
        await forget(gone);
      }
    });

    test("the image that was pulled is taken, also when the tag was another one's here", async () => {
      const logins = await loginFor(registry);
      const app = await get(name, ["always"], logins);
      const [repo = "", tag = ""] = [name.slice(0, name.lastIndexOf(":")), "1"];
      await found?.docker.getImage(imageName("user")).tag({ repo, tag });
      expect((await get(name, ["if-not-present"], logins)).id).not.toBe(app.id);
      expect((await get(name, ["always"], logins)).id).toBe(app.id);
    });

    test("what is no name of an image or of a platform costs the engine nothing", async () => {
      const logins = await openLogins({ ...none, jobCredentials: [] });
      await expect(get("No Image", ["always"], logins)).rejects.toThrow(/is no name of an image/);
      await expect(get("ruby", ["always"], logins, "linux/amd64&x=1")).rejects.toThrow(/is no platform/);
      expect(notes.text).toBe("");
    });

    test("an image is found by its id, and another platform's is not taken for ours", async () => {
      const logins = await loginFor(registry);
      const { id } = await get(name, ["always"], logins);
      expect((await get(id, ["always"], logins)).id).toBe(id);
      const other = await failureOf(get(name, ["never"], logins, "linux/s390x"));
      expect(other.message).toMatch(/for linux\/s390x/);
    });
  });
}

/** What a daemon could answer to a pull. */
describe("a pull that goes wrong under way", () => {
  let server: Server;
  let engine: Engine;
  let answer: string[] = [];
  let complete = true;
  let hang = false;
  let pulls = 0;
  beforeAll(async () => {
    server = createServer((request, response) => {
      const path = request.url ?? "";
      response.setHeader("Content-Type", "application/json");
      if (path.endsWith("/version"))
        response.end('{"Version":"25.0","ApiVersion":"1.44","MinAPIVersion":"1.24","Os":"linux"}');
      else if (path.endsWith("/info")) response.end('{"Name":"fake"}');
      else if (path.includes("/images/create")) {
        pulls++;
        for (const line of answer) response.write(`${line}\r\n`);
        if (!hang) {
          if (complete) response.end();
          else setImmediate(() => response.destroy());
        }
      } else if (path.includes("/images/")) {
        response.end(`{"Id":"sha256:${"b".repeat(64)}","Config":null}`);
      } else {
        response.statusCode = 404;
        response.end('{"message":"page not found"}');
      }
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const port = portOf(server);
    const settings = { host: `tcp://127.0.0.1:${port}`, tlsCertPath: "", tlsVerify: false };
    engine = await connectEngine({ settings, env: {}, scratchDir: tmpdir() }, never);
  });
  afterAll(async () => {
    await engine.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  const pull = async (signal = never): Promise<unknown> =>
    await obtainImage(
      engine,
      { name: "ruby", policies: ["always"], platform: null, logins: await openLogins({ ...none, jobCredentials: [] }) },
      new Sink(),
      signal,
    );

  test.each<[string, string[], boolean, RegExp, boolean]>([
    [
      "an error within the stream",
      [
        '{"status":"Downloading","id":"x"}',
        '{"errorDetail":{"message":"layer is damaged"},"error":"layer is damaged"}',
      ],
      true,
      /layer is damaged/,
      true,
    ],
    [
      "a refusal within the stream",
      ['{"error":"unauthorized: authentication required"}'],
      true,
      /another login/,
      false,
    ],
    ["a full disk", ['{"error":"write /var/lib/docker/tmp/x: no space left on device"}'], true, /disk is full/, false],
    ["a connection that breaks", ['{"status":"Downloading","id":"x"}'], false, /ended early/, true],
    ["an end without a status", ['{"status":"Downloading","id":"x"}'], true, /ended early/, true],
    ["an empty answer", [], true, /ended early/, true],
    ["words that are no JSON", ["<html>", "{"], true, /ended early/, true],
    ["a line without an end", ["x".repeat(2_000_000)], true, /more than a megabyte/, true],
  ])("%s fails the pull, although an older image is there", async (_, lines, ends, message, retry) => {
    answer = lines;
    complete = ends;
    hang = false;
    const failure = await failureOf(pull());
    expect(failure.message).toMatch(message);
    expect(failure.retry).toBe(retry);
    // A full disk is that of other jobs, too.
    expect(failure.reason).toBe(/disk/.test(failure.message) ? "runner_system_failure" : "image_pull_failure");
  });

  test("a cancel ends a pull that hangs", async () => {
    answer = ['{"status":"Downloading","id":"x"}'];
    hang = true;
    using limit = deadline(never, 100, new Stop("canceled", "canceled"));
    await expect(pull(limit.signal)).rejects.toThrow("canceled");
  });

  test("a status at the end makes it whole", async () => {
    answer = ['{"status":"Status: Downloaded newer image for ruby:latest"}'];
    complete = true;
    hang = false;
    await expect(pull()).resolves.toMatchObject({ id: `sha256:${"b".repeat(64)}` });
  });

  test("an image that several services of a job have is pulled once", async () => {
    answer = ['{"status":"Status: Downloaded newer image for ruby:latest"}'];
    complete = true;
    hang = false;
    pulls = 0;
    const logins = await openLogins({ ...none, jobCredentials: [] });
    const obtain = createImageSource(engine, logins, new Sink(), { image: (body) => body() });
    const wanted = { name: "ruby", policies: ["always"], platform: null } as const;
    const [one, other] = await Promise.all([obtain(wanted, never), obtain(wanted, never)]);
    expect(one).toBe(other);
    expect(await obtain(wanted, never)).toBe(one);
    expect(pulls).toBe(1);
  });
});

function portOf(server: TcpServer): number {
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}
