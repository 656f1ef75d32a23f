import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runnerId } from "../../src/config/identity.ts";
import type { JobSpec } from "../../src/local/coordinator/jobs/job.ts";
import { imageName, noEngine, testEngine } from "../support/docker.ts";
import { openSite, type Site } from "../support/site.ts";
import { createUpstream, type Upstream } from "../support/upstream.ts";

const engine = await testEngine("docker");

/** Prints an archive as GitLab Runner makes them. */
const ZIP = `import base64, io, zipfile
made = io.BytesIO()
with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive: archive.writestr("deps/a", "from-before\\n")
print(base64.b64encode(made.getvalue()).decode(), end="")`;

describe("docker jobs with the built program", () => {
  if (engine === null) {
    test.skip(noEngine("docker"), () => {});
    return;
  }
  const { docker } = engine;
  let site: Site;
  let upstream: Upstream;

  beforeAll(async () => {
    await engine.images("sh", "git", "user", "service");
    upstream = await createUpstream(1000);
    site = await openSite({
      dialect: "gitlab",
      executor: "docker",
      global: "concurrent = 6",
      entry: `environment = ["FROM_ENTRY=entry", "OPERATOR_TOKEN=operators-own"]
[runners.docker]
host = "${engine.host}"
image = "${imageName("git")}"
helper_image = "${imageName("git")}"
pull_policy = "never"
volumes = ["${upstream.dir}:/upstream:ro"]`,
    });
  }, 300_000);
  afterAll(async () => {
    await site.close();
    for (const volume of (await docker.listVolumes({ filters: { label: [ours()] } })).Volumes) {
      await docker.getVolume(volume.Name).remove({ force: true });
    }
    rmSync(upstream.dir, { recursive: true, force: true });
  }, 120_000);

  /** The label of this site's runner. */
  const ours = (): string => `com.gitlab.gitlab-runner.runner.id=${runnerId(site.tokens[0] ?? "")}`;

  const sources = (): JobSpec => ({
    git: { repoUrl: "file:///upstream", sha: upstream.sha, ref: "main" },
  });

  async function run(spec: JobSpec) {
    const job = site.coordinator.enqueue(spec);
    const update = await job.reported({ timeoutMs: 120_000 });
    return { job, update, state: update.state, trace: job.trace, exitCode: update.exitCode };
  }

  /** Containers, networks and volumes of jobs that still exist. */
  async function leftovers(): Promise<string[]> {
    const filters = { label: ["alloy-runner.job-key", ours()] };
    const [containers, networks, volumes] = await Promise.all([
      docker.listContainers({ all: true, filters }),
      docker.listNetworks({ filters }),
      docker.listVolumes({ filters }),
    ]);
    return [
      ...containers.map((one) => one.Names.join()),
      ...networks.map((one) => one.Name),
      ...volumes.Volumes.map((one) => one.Name),
    ];
  }

  async function untilNothingIsLeft(): Promise<void> {
    await expect.poll(leftovers, { timeout: 60_000, interval: 200 }).toEqual([]);
  }

  // First of all: what other runners have left is looked for once a minute.
  test("a cache that GitLab Runner has left in its volume is restored once, and kept by this runner from then on", async () => {
    const systemId = (await readFile(join(site.dir, ".runner_system_id"), "utf8")).trim();
    const hash = createHash("sha256").update([site.tokens[0], systemId, 77, 0].join("-")).digest("hex").slice(0, 32);
    const volume = `runner-${hash}-cache-${createHash("md5").update("/cache").digest("hex")}`;
    const zip = execFileSync("python3", ["-c", ZIP], { timeout: 20_000 }).toString();
    const fill = `mkdir -p /cache/group/app/old && printf %s ${zip} | base64 -d >/cache/group/app/old/cache.zip`;
    await docker.createVolume({ Name: volume });
    const container = await docker.createContainer({
      Image: imageName("git"),
      Entrypoint: ["sh", "-c", fill],
      HostConfig: { Binds: [`${volume}:/cache`] },
    });
    try {
      await container.start();
      expect(await container.wait()).toMatchObject({ StatusCode: 0 });
      const spec = (script: string): JobSpec => ({
        projectId: 77,
        git: { repoUrl: "https://nowhere.invalid/group/app.git", sha: upstream.sha, ref: "main" },
        variables: [{ key: "GIT_STRATEGY", value: "empty" }],
        cache: { key: "old", paths: ["deps"] },
        script: [script],
      });
      const first = await run(spec("cat deps/a; echo more > deps/b"));
      expect(first.state, first.trace).toBe("success");
      expect(first.trace).toMatch(/Successfully restored cache old: \d entr.*which slot 0 of another runner has left/);
      expect(first.trace).toContain("\nfrom-before\n");
      const second = await run(spec("cat deps/a deps/b"));
      expect(second.state, second.trace).toBe("success");
      expect(second.trace).not.toContain("another runner");
      expect(second.trace).toContain("\nfrom-before\nmore\n");
    } finally {
      await container.remove({ force: true });
      await docker.getVolume(volume).remove({ force: true });
    }
  });

  test("an ENTRYPOINT and services see what is no secret, and the engine is told no secret", async () => {
    const job = site.coordinator.enqueue({
      image: {
        name: imageName("git"),
        entrypoint: ["sh", "-c", 'export SEEN="$FOO $FROM_ENTRY $CI_PROJECT_DIR"; exec "$@"', "--"],
      },
      services: [{ name: imageName("service"), alias: "web", variables: [{ key: "OWN", value: "for $FOO" }] }],
      variables: [
        { key: "FOO", value: "bar" },
        { key: "HIDDEN", value: "masked-value", masked: true },
        { key: "KEY_FILE", value: "content-of-a-file", file: true },
        { key: "DB_PASSWORD", value: "a-public-password" },
        { key: "URL", value: "db://$HIDDEN" },
      ],
      script: [
        'echo "seen: $SEEN"',
        'echo "entry: $FROM_ENTRY, $OPERATOR_TOKEN"',
        'cat "$KEY_FILE"; until [ -e /tmp/go-on ]; do sleep 0.1; done',
      ],
    });
    await job.traceContains("content-of-a-file", { timeoutMs: 120_000 });
    const inspected = async (role: string): Promise<readonly string[]> => {
      const [one] = await docker.listContainers({ filters: { label: [ours(), `alloy-runner.role=${role}`] } });
      const { Config, Id } = await docker.getContainer(one?.Id ?? "").inspect();
      if (role === "build") {
        await (await docker.getContainer(Id).exec({ Cmd: ["touch", "/tmp/go-on"] })).start({});
      }
      return Config.Env;
    };
    const service = await inspected("service");
    const build = await inspected("build");
    expect((await job.reported({ timeoutMs: 60_000 })).state, job.trace).toBe("success");
    expect(job.trace).toMatch(/seen: bar entry \/builds\/\S+/);
    expect(job.trace).toContain("entry: entry, operators-own");
    expect(service).toEqual(expect.arrayContaining(["FOO=bar", "FROM_ENTRY=entry", "OWN=for bar", "URL=db://"]));
    expect(build).toEqual(expect.arrayContaining(["FOO=bar", "FROM_ENTRY=entry"]));
    for (const env of [service, build]) {
      expect(env.join("\n")).not.toMatch(/masked-value|content-of-a-file|operators-own|CI_JOB_TOKEN|CI_REPOSITORY_URL/);
    }
    expect(build.join("\n")).not.toMatch(/a-public-password|^URL=/m);
  }, 180_000);

  test("sources, a service, artifacts and a cache, with an image that is not root's", async () => {
    const first = await run({
      ...sources(),
      image: imageName("user"),
      services: [{ name: imageName("service"), alias: "web" }],
      script: [
        "cat README",
        "mkdir -p out .cached",
        "echo made > out/file",
        "echo kept > .cached/file",
        "wget -qO- http://web:8080/",
      ],
      artifacts: { paths: ["out/"] },
      cache: { key: "k", paths: [".cached"] },
    });
    expect(first.state, first.trace).toBe("success");
    expect(first.trace).toContain("hello");
    const second = await run({
      ...sources(),
      image: imageName("user"),
      script: ["id -u", "cat out/file .cached/file README", "echo new > mine", "ls -ln README"],
      variables: [
        { key: "FF_ENABLE_JOB_CLEANUP", value: "true" },
        { key: "GIT_STRATEGY", value: "clone" },
        { key: "FF_NETWORK_PER_BUILD", value: "false" },
      ],
      dependencies: [first.job],
      cache: { key: "k", paths: [".cached"] },
    });
    expect(second.state, second.trace).toBe("success");
    expect(second.trace).toContain("WARNING: Feature flags without effect: FF_NETWORK_PER_BUILD=false (");
    expect(second.trace).toContain("Removing the project's directory");
    expect(second.trace).not.toContain("cleaning up failed");
    expect(second.trace).toMatch(/1000\r?\n[\s\S]*made\r?\nkept\r?\nhello/);
    await untilNothingIsLeft();
  });

  test("secrets are in no container's settings and in no argument list", async () => {
    const job = site.coordinator.enqueue({
      image: imageName("git"),
      services: [imageName("service")],
      variables: [{ key: "SECRET", value: "tell-nobody-anything", masked: true, public: false }],
      script: [
        "echo is-$((1+1))-ready",
        "while [ ! -e /tmp/go ]; do sleep 0.1; done",
        'test "$SECRET" = tell-nobody-anything',
      ],
    });
    await job.traceContains("is-2-ready", { timeoutMs: 60_000 });
    const containers = await docker.listContainers({ filters: { label: ["alloy-runner.job-key"] } });
    const seen = await Promise.all(containers.map(({ Id }) => docker.getContainer(Id).inspect()));
    expect(JSON.stringify(seen)).not.toContain("tell-nobody");
    const arguments_ = execFileSync("ps", ["-axww", "-o", "args="]).toString();
    expect(arguments_).not.toContain("tell-nobody");
    const build = containers.find(
      ({ Labels }) => Labels["alloy-runner.role"] === "build" && Labels["com.gitlab.gitlab-runner.job.id"] === job.id,
    );
    const exec = await docker.getContainer(build?.Id ?? "").exec({ Cmd: ["touch", "/tmp/go"] });
    await exec.start({ Detach: true });
    expect((await job.reported({ timeoutMs: 60_000 })).state).toBe("success");
    await untilNothingIsLeft();
  });

  test("a cancel ends it within seconds, and nothing is left", async () => {
    const job = site.coordinator.enqueue({
      image: imageName("git"),
      script: ["trap 'echo bye; exit 0' TERM", "echo is-$((1+1))-ready; sleep 600 & wait"],
    });
    await job.traceContains("is-2-ready", { timeoutMs: 60_000 });
    job.cancel();
    await untilNothingIsLeft();
  });

  test("the exit status of a script is the job's, and a broken image is named", async () => {
    const failed = await run({ image: imageName("sh"), script: ["exit 42"] });
    expect([failed.state, failed.exitCode]).toEqual(["failed", 42]);
    const missing = await run({ image: "alloy-test/no-such-image:1", script: ["true"] });
    expect(missing.state).toBe("failed");
    expect(missing.trace).toContain("alloy-test/no-such-image:1");
    await untilNothingIsLeft();
  });

  test("after kill -9 the next start removes everything and reports the job as failed", async () => {
    const job = site.coordinator.enqueue({
      image: imageName("git"),
      services: [imageName("service")],
      script: ["echo is-$((1+1))-ready; sleep 600"],
    });
    await job.traceContains("is-2-ready", { timeoutMs: 60_000 });
    expect((await leftovers()).length).toBeGreaterThan(2);
    await site.runner.stop("SIGKILL");
    expect((await leftovers()).length).toBeGreaterThan(2);
    await site.start();
    const update = await job.reported({ timeoutMs: 60_000 });
    expect(update).toMatchObject({ state: "failed", failureReason: "runner_system_failure" });
    await untilNothingIsLeft();
    expect(job.trace).toMatch(/ended \d+ process/);
  });
});
