import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { readContainerFile } from "../../executors/docker/container/container-file.ts";
import { containerCommands, runForText } from "../../executors/docker/engine/commands.ts";
import { ScriptFailure, SystemFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Note, PrepareRequest } from "../../src/executor/prepare.ts";
import type { Job, Service } from "../../src/job/job.ts";
import { preparedVariables, setUp, variablesAt } from "../../src/job/plan/set-up.ts";
import { never, pause } from "../../src/time.ts";
import { imageName, noEngine, type TestImage, testEngine } from "../support/docker.ts";
import { runOps, Sink, sampleRequest, scriptOf, source } from "../support/executor-kit.ts";
import {
  connectTo,
  imageOfJob as image,
  openDockerStand,
  standOfSuite,
  type Table,
  TIMEOUT_MS,
} from "./docker-stand.ts";

const engine = await testEngine("docker");

describe("jobs in containers", () => {
  if (engine === null) {
    test.skip(noEngine("docker"), () => {});
    return;
  }
  const { docker, host } = engine;
  const stand = standOfSuite(engine, ["sh", "git", "user", "entrypoint", "empty", "service", "broken"]);

  const it = (title: string, body: () => Promise<void>): void => test(title, body, TIMEOUT_MS);

  const service = (name: TestImage, parts: Partial<Service> = {}): Service => ({
    ...image(name),
    aliases: [],
    command: null,
    variables: [],
    ...parts,
  });
  const requestOf = (parts: Partial<Job>, environment: PrepareRequest["environment"] = []): PrepareRequest => {
    const request = sampleRequest();
    const job = { ...request.job, ...parts };
    const identity = { version: "1", revision: "r", architecture: "linux/amd64" };
    const features = { variables: true, image: true, services: true, shared: false };
    const sources = {
      job,
      runner: { environment, shortToken: "", debugTraceDisabled: false, featureFlags: {} },
      identity,
      executor: { features },
      concurrentId: 0,
    };
    return {
      ...request,
      job,
      environment,
      expand: setUp(sources, null).variables.expand,
      expandSettled: setUp(sources, null).variables.expandSettled,
      variablesAt: (place) => variablesAt(sources, place),
      openVariables: (place) => preparedVariables(sources, place),
    };
  };

  /** Prepares an environment that is destroyed after the test; the result has the notes, too. */
  async function prepared(
    table: Table,
    parts: Partial<Job>,
    { buildsDir, entry }: { buildsDir?: string | undefined; entry?: PrepareRequest["environment"] } = {},
  ): Promise<{ environment: Environment; notes: string }> {
    const executor = stand().open(table, { killGraceMs: 500, ...(buildsDir === undefined ? {} : { buildsDir }) });
    onTestFinished(() => executor.close(never));
    const notes = new Sink();
    const environment = await executor.prepare(requestOf(parts, entry), notes, never);
    onTestFinished(() => environment.destroy(never));
    return { environment, notes: notes.text };
  }
  /** A directory of this machine that is removed after the test. */
  function hostDirectory(): string {
    const above = mkdtempSync(join(tmpdir(), "alloy-builds-"));
    onTestFinished(() => rmSync(above, { recursive: true, force: true }));
    const dir = join(above, "open-to-all");
    mkdirSync(dir);
    return dir;
  }
  /** The output of a command in the service of the runner that is at work. */
  async function inService(script: string): Promise<string> {
    const filters = { label: ["alloy-runner.role=service", `com.gitlab.gitlab-runner.runner.id=${stand().runner()}`] };
    const [container] = await docker.listContainers({ filters });
    const connected = await connectTo({ host });
    onTestFinished(() => connected.close());
    const commands = containerCommands({
      engine: connected,
      container: container?.Id ?? "",
      name: "the service",
      user: "0",
    });
    return (await runForText(commands, { script, args: [] }, never)).stdout;
  }
  async function failureOf(table: Table, parts: Partial<Job>): Promise<unknown> {
    return await prepared(table, parts).catch((error: unknown) => error);
  }

  it("a user of the image's own writes where it works, and git trusts what it finds there", async () => {
    const { environment } = await prepared({ volumes: ["/cache"] }, { image: image("user") });
    const { root } = environment.workspace;
    const { code, text } = await runOps(environment, [
      { op: "cd", path: root },
      ...source("id -u", "touch here ../there /cache/kept", "stat -c %u here .", "echo $GIT_CONFIG_VALUE_0"),
    ]);
    expect([code, text]).toEqual([0, `1000\n1000\n1000\n${root}\n`]);
    const helped = new Sink();
    const script = {
      ...scriptOf(
        environment,
        source("id -u; git init -q /builds/x && cd /builds/x && git status >/dev/null && echo works"),
      ),
      runIn: "helper" as const,
    };
    expect((await environment.run(script, helped, never)).code, helped.text).toBe(0);
    expect(helped.text).toContain("1000\nworks\n");
  });

  it("what was root's in the checkout is the user's when the image changes", async () => {
    const first = await prepared({}, { image: image("git") });
    const { root } = first.environment.workspace;
    await runOps(first.environment, [{ op: "write", path: `${root}/deep/file`, content: "x" }]);
    await first.environment.destroy(never);
    const { environment } = await prepared({}, { image: image("user") });
    expect((await runOps(environment, source(`rm -r ${root}/deep && echo gone`))).text).toBe("gone\n");
  });

  it("services answer under all their names before the script starts, and see what is public only", async () => {
    const variables = [
      { key: "OPEN", value: "open $HIDDEN", public: true, masked: false, file: false, raw: false },
      { key: "HIDDEN", value: "tell-nobody", public: false, masked: true, file: false, raw: false },
    ];
    const { environment, notes } = await prepared(
      {},
      {
        image: image("sh"),
        variables,
        services: [
          service("service", {
            aliases: ["web", "the.web"],
            variables: [{ key: "OWN", value: "own", public: true, masked: false, file: false, raw: false }],
          }),
        ],
      },
    );
    expect(notes).not.toContain("WARNING");
    const name = imageName("service").replace(/:.*/, "");
    const hosts = ["web", "the.web", name.replaceAll("/", "__"), name.replaceAll("/", "-")];
    const { text } = await runOps(environment, source(...hosts.map((host) => `wget -qO- http://${host}:8080/`)));
    expect(text).toBe("hello\n".repeat(4));
    const [container] = await docker.listContainers({
      filters: { label: ["alloy-runner.role=service", `com.gitlab.gitlab-runner.runner.id=${stand().runner()}`] },
    });
    const { Config } = await docker.getContainer(container?.Id ?? "").inspect();
    expect(Config.Env).toEqual(expect.arrayContaining(["OPEN=open ", "OWN=own"]));
    expect(JSON.stringify(Config)).not.toContain("tell-nobody");
  });

  it("a service whose name is empty here is left out, and the entry's logins count", async () => {
    const { notes } = await prepared(
      { services: ["$NOTHING"] },
      { services: [{ ...service("service"), name: "${DB_IMAGE}" }] },
      { entry: [{ key: "DOCKER_AUTH_CONFIG", value: "no docker configuration" }] },
    );
    expect(notes).toContain('WARNING: A service was left out, because its name "$NOTHING" is empty here');
    expect(notes).toContain('WARNING: A service was left out, because its name "${DB_IMAGE}" is empty here');
    expect(notes).toContain("WARNING: DOCKER_AUTH_CONFIG in environment of the entry is no docker configuration");
  });

  it("a service that ends at once is a warning with its log, and the job goes on", async () => {
    const { environment, notes } = await prepared({}, { services: [service("broken", { aliases: ["db"] })] });
    expect(notes).toMatch(/WARNING: The service .*broken.* has ended with status 3[\s\S]*cannot find my data/);
    expect((await runOps(environment, source("true"))).code).toBe(0);
  });

  it("what services print is in the trace with CI_DEBUG_SERVICES, each line with its names", async () => {
    const counting = "echo one; echo two >&2; n=0; while [ $n -lt 900 ]; do n=$((n+1)); echo tick $n; sleep 0.1; done";
    const talking = service("service", { aliases: ["db", "a-db"], command: ["sh", "-c", counting] });
    const executor = stand().open({ wait_for_services_timeout: -1 }, { killGraceMs: 500 });
    onTestFinished(() => executor.close(never));
    const notes = new Sink();
    const request = requestOf({ services: [talking] });
    const environment = await executor.prepare({ ...request, debugServices: true }, notes, never);
    onTestFinished(() => environment.destroy(never));
    // Whoever looks at what the job uses ends nothing.
    await environment.usage?.(never);
    const seen = notes.text.match(/Z tick/g)?.length ?? 0;
    await notes.until(new RegExp(`Z tick ${seen + 5}\\b`));
    await environment.scriptsOver?.();
    const lines = notes.text.split("\n").filter((line) => line.includes("[service:"));
    const texts = lines.map((line) => line.slice(line.lastIndexOf("Z "), -5));
    expect(texts).toEqual(expect.arrayContaining(["Z one", "Z two", "Z tick 1"]));
    for (const line of lines)
      expect(line).toMatch(
        /^\x1b\[0;37m\[service:[\w.-]*a-db-[\w.-]*db[\w.-]*\] \d{4}-\d\d-\d\dT\S+Z [\w ]+\x1b\[0;m$/,
      );
    await environment.usage?.(never);
    expect(notes.text.split("\n").filter((line) => line.includes("[service:"))).toEqual(lines);
    const quiet = await prepared({}, { services: [talking] });
    expect(quiet.notes).not.toContain("[service:");
  });

  it("a service that never answers is waited for as long as the operator says, or not at all", async () => {
    const silent = service("service", { command: ["sleep", "600"] });
    const { notes } = await prepared({ wait_for_services_timeout: 2 }, { services: [silent] });
    expect(notes).toMatch(/WARNING: .*nothing answers on port 8080 after 2 s/);
    const impatient = await prepared({ wait_for_services_timeout: -1 }, { services: [silent] });
    expect(impatient.notes).not.toContain("WARNING");
  });

  it("the port that tells whether a service is up may be any variable's that it sees, and must be one", async () => {
    const port = (value: string) => ({
      key: "healthcheck_tcp_port",
      value,
      public: true,
      masked: false,
      file: false,
      raw: false,
    });
    const given = { variables: [port("9")], services: [service("service")] };
    const { notes } = await prepared({ wait_for_services_timeout: 1 }, given);
    expect(notes).toMatch(/WARNING: .*nothing answers on port 9 after 1 s/);
    const failure = await failureOf({}, { services: [service("service", { variables: [port("70000")] })] });
    expect(failure).toMatchObject({ reason: "runner_configuration_error", retry: false });
    expect(String(failure)).toContain(`HEALTHCHECK_TCP_PORT of the service ${imageName("service")} must be a port`);
  });

  it("a job and its services are told the name of the network that they have to themselves", async () => {
    const { environment } = await prepared({}, { services: [service("service")] });
    const [told] = environment.variables ?? [];
    expect(told).toMatchObject({ key: "CI_BUILD_NETWORK_NAME", public: true });
    expect(await inService("echo $CI_BUILD_NETWORK_NAME")).toBe(`${told?.value}\n`);
    const { Containers } = await docker.getNetwork(told?.value ?? "").inspect();
    expect(Object.keys(Containers ?? {})).toHaveLength(2);
    const other = await prepared({ network_mode: "bridge" }, {});
    expect(other.environment.variables).toEqual([]);
  });

  it("helper_image is expanded over what the operator and the runner say, and nothing of the job's", async () => {
    const entry = [{ key: "HELPER", value: imageName("git") }];
    const chosen = { key: "HELPER", value: imageName("sh"), public: true, masked: false, file: false, raw: false };
    const { notes } = await prepared({ helper_image: "$HELPER" }, { variables: [chosen] }, { entry });
    expect(notes).not.toContain("has no git");
    const failure = await failureOf({ helper_image: "me/gitlab-runner-helper:x86_64-v$CI_RUNNER_VERSION" }, {});
    expect(String(failure)).toContain("me/gitlab-runner-helper:x86_64-v1");
    expect(String(failure)).toContain("have the versions and commits of GitLab Runner");
  });

  it("on the engine's own bridge services are known by their names, too", async () => {
    const { environment } = await prepared(
      { network_mode: "bridge" },
      { image: image("sh"), services: [service("service", { aliases: ["web"] })] },
    );
    expect((await runOps(environment, source("wget -qO- http://web:8080/"))).text).toBe("hello\n");
  });

  it("an alias that is no host name, or the coordinator's, is the job's fault", async () => {
    for (const alias of ["-x", "a b", "example.com", "localhost"]) {
      const failure = await failureOf({}, { services: [service("service", { aliases: [alias] })] });
      expect(failure, alias).toBeInstanceOf(ScriptFailure);
      expect(String(failure)).toContain(alias);
    }
  });

  it("an image whose ENTRYPOINT starts no shell runs without it, with a warning", async () => {
    const { environment, notes } = await prepared({}, { image: image("entrypoint") });
    expect(notes).toMatch(/WARNING: The ENTRYPOINT \["git"\]/);
    expect((await runOps(environment, source("echo fine"))).text).toBe("fine\n");
  });

  it("a job's own entrypoint must start a shell, and one of no words leaves it out", async () => {
    const failure = await failureOf({}, { image: image("git", { entrypoint: ["false"] }) });
    expect(failure).toBeInstanceOf(ScriptFailure);
    expect(String(failure)).toContain("ENTRYPOINT");
    const { environment, notes } = await prepared({}, { image: image("entrypoint", { entrypoint: [""] }) });
    expect(notes).not.toContain("WARNING");
    expect((await runOps(environment, source("echo fine"))).text).toBe("fine\n");
  });

  it("scripts see what an ENTRYPOINT set up", async () => {
    const entrypoint = ["sh", "-c", 'export FROM_ENTRYPOINT="a b"; echo setting up; exec "$@"', "entrypoint"];
    const { environment, notes } = await prepared({}, { image: image("git", { entrypoint }) });
    expect(notes).toContain("setting up\n");
    expect((await runOps(environment, source('echo "$FROM_ENTRYPOINT"'))).text).toBe("a b\n");
  });

  it("an image without a shell is named, with what to do", async () => {
    const failure = await failureOf({}, { image: image("empty") });
    expect(failure).toBeInstanceOf(ScriptFailure);
    expect(String(failure)).toMatch(/alloy-test\/empty.*POSIX shell/);
  });

  it("memory that runs out is named", async () => {
    const { environment } = await prepared({ memory: "64m", memory_swap: "64m" }, { image: image("git") });
    const { code, text } = await runOps(environment, source("head -c 300000000 /dev/zero | tail -c 200000000 | wc -c"));
    expect(code).not.toBe(0);
    expect(text).toMatch(/Out of memory.*64 MiB/);
    expect((await runOps(environment, source("echo still here"))).text).toBe("still here\n");
  });

  it("paths of volumes are kept from job to job, or removed with the job where disable_cache says so", async () => {
    for (const [table, expected] of [
      [{ volumes: ["/cache"] }, "kept"],
      [{ volumes: ["/cache"], disable_cache: true }, "fresh"],
    ] as const) {
      stand().newRunner();
      for (const round of ["first", "second"]) {
        const { environment } = await prepared(table, {});
        const { text } = await runOps(
          environment,
          source("[ -e /cache/x ] && echo kept || echo fresh; touch /cache/x"),
        );
        expect(text).toBe(round === "first" ? "fresh\n" : `${expected}\n`);
        await environment.destroy(never);
      }
    }
  });

  it("a builds directory of the host is laid out for all runners, and holds nothing that is temporary", async () => {
    const dir = hostDirectory();
    const { environment } = await prepared({ volumes: [`${dir}:/builds`] }, { image: image("user") });
    const { root, tmpDir } = environment.workspace;
    expect(root).toMatch(/^\/builds\/[0-9a-f]{8}\/0\/group\/project$/);
    const { code } = await runOps(environment, [{ op: "write", path: `${tmpDir}/secret`, content: "x" }]);
    expect(code).toBe(0);
    expect(readdirSync(join(dir, stand().runner()))).toEqual(["0"]);
  });

  for (const [where, table] of [
    ["a kept volume", () => ({})],
    ["a volume of the job's own", () => ({ disable_cache: true })],
    ["a directory of the host", () => ({ volumes: [`${hostDirectory()}:/builds`] })],
    ["a directory of the host further up", () => ({ volumes: [`${hostDirectory()}:/srv`] })],
    ["a kept directory of the host", () => ({ cache_dir: hostDirectory() })],
  ] as const) {
    it(`services see the checkout in ${where} at its path, and no private file of the job`, async () => {
      const buildsDir = where.endsWith("further up") ? "/srv/builds" : undefined;
      for (const seen of [true, false]) {
        const { environment } = await prepared(
          { ...table(), services_see_builds: seen },
          { image: image("user"), services: [service("service")] },
          { buildsDir },
        );
        const { root, tmpDir } = environment.workspace;
        const file = `${root}/for-services`;
        const { code } = await runOps(environment, [
          { op: "write", path: file, content: "from the job" },
          { op: "write", path: `${tmpDir}/PRIVATE_KEY`, content: "secret" },
        ]);
        expect(code).toBe(0);
        const look = `find / -xdev -name PRIVATE_KEY; ls ${tmpDir}; cat ${file}`;
        expect(await inService(look), String(seen)).toBe(seen ? "from the job" : "");
        await environment.destroy(never);
        stand().newRunner();
      }
    });
  }

  it("the builds directory begins empty, whatever a service's image has there", async () => {
    const { environment } = await prepared(
      { wait_for_services_timeout: -1 },
      { image: image("sh"), services: [service("service")] },
      { buildsDir: "/www" },
    );
    expect((await runOps(environment, source("ls -A /www"))).text).toBe("group\n");
  });

  it("settings of the operator reach the container, and a wrong one is not tried again", async () => {
    const { environment } = await prepared(
      {
        hostname: "the-host",
        cpus: "0.5",
        tmpfs: { "/scratch": "rw,size=1m" },
        shm_size: 1_048_576,
        extra_hosts: ["somewhere:10.9.8.7"],
        dns: ["10.1.1.1"],
        ulimit: { nofile: "1000:2000" },
        cap_drop: ["NET_RAW"],
        container_labels: { team: "blue" },
        sysctls: { "net.ipv4.ip_unprivileged_port_start": "0" },
        user: "builder",
      },
      { image: image("git") },
    );
    const { text } = await runOps(
      environment,
      source(
        "hostname",
        "id -un",
        "df -k --output=size /scratch | tail -n 1 | tr -d ' '",
        "grep somewhere /etc/hosts | cut -f1",
        // In an exec with no-new-privileges, some versions of runc raise the soft limit to the hard one.
        "ulimit -Hn",
      ),
    );
    expect(text).toBe("the-host\nbuilder\n1024\n10.9.8.7\n2000\n");
    const failure = await failureOf({ sysctls: { "kernel.nonsense": "1" } }, {});
    expect(failure).toBeInstanceOf(SystemFailure);
  });

  it("a container that somebody kills is a failure of the system, and after_script still runs", async () => {
    const { environment } = await prepared({}, {});
    const output = new Sink();
    const running = environment.run(scriptOf(environment, source("echo go; sleep 600")), output, never);
    running.catch(() => {});
    await output.until(/go/);
    const filters = { label: ["alloy-runner.role=build", `com.gitlab.gitlab-runner.runner.id=${stand().runner()}`] };
    const [container] = await docker.listContainers({ filters });
    await docker.getContainer(container?.Id ?? "").kill();
    await expect(running).rejects.toThrow(/build container .*has ended|has ended with status 137/);
    expect(output.text).not.toContain("ERROR");
    expect((await runOps(environment, source("echo after"))).text).toBe("after\n");
  });

  it("a script that is stopped while its container is started again leaves it to the next one", async () => {
    const { environment } = await prepared({}, {});
    const filters = { label: ["alloy-runner.role=build", `com.gitlab.gitlab-runner.runner.id=${stand().runner()}`] };
    const [found] = await docker.listContainers({ filters });
    const container = docker.getContainer(found?.Id ?? "");
    for (let round = 0; round < 5; round++) {
      const output = new Sink();
      const running = environment.run(scriptOf(environment, source("echo go; sleep 600")), output, never);
      running.catch(() => {});
      await output.until(/go/);
      await container.kill();
      await expect(running).rejects.toBeInstanceOf(SystemFailure);
      const stop = new AbortController();
      const stopped = runOps(environment, source("sleep 600"), { signal: stop.signal });
      stopped.catch(() => {});
      while (!(await container.inspect()).State.Running) await pause(2, never);
      stop.abort(new Error("enough"));
      await expect(stopped).rejects.toThrow("enough");
      expect((await runOps(environment, source("echo after"))).text).toBe("after\n");
    }
  });

  it("a file of an image that is larger than it may be is the fault of whoever chose the image", async () => {
    const { environment } = await prepared({}, {});
    const container = /container (\S+)/.exec(environment.host)?.[1] ?? "";
    const connected = await connectTo({ host });
    onTestFinished(() => connected.close());
    const read = async (mostBytes: number): Promise<Buffer | null> =>
      await readContainerFile(connected, { container, path: "/etc/passwd", mostBytes }, never);
    expect(String(await read(100_000))).toContain("root:");
    await expect(read(10)).rejects.toBeInstanceOf(ScriptFailure);
  });

  it("a helper image without git is named before the sources fail", async () => {
    const { notes } = await prepared({ helper_image: imageName("sh") }, { image: image("sh") });
    expect(notes).toContain(
      `WARNING: The helper image ${imageName("sh")} has no git: without it there are no sources.`,
    );
  });

  it("stopping at any moment of preparing leaves nothing", async () => {
    const executor = stand().open({}, { killGraceMs: 100 });
    onTestFinished(() => executor.close(never));
    for (const delayMs of [0, 30, 100, 300, 600, 900, 1500]) {
      const stop = new AbortController();
      const timer = setTimeout(() => stop.abort(new Error("enough")), delayMs);
      const request = requestOf({ services: [service("service")] });
      const outcome = await executor.prepare(request, new Sink(), stop.signal).then(
        async (environment) => await environment.destroy(never),
        (error: unknown) => expect(String(error)).toContain("enough"),
      );
      void outcome;
      clearTimeout(timer);
    }
    await expect.poll(() => stand().leftovers(), { timeout: 60_000, interval: 200 }).toEqual([]);
  });

  it("a dead job is found at the engine where it was, whatever the configuration says now", async () => {
    const executor = stand().open();
    onTestFinished(() => executor.close(never));
    const notes: Note[] = [];
    const request = { ...requestOf({}), remember: async (note: Note) => void notes.push(note) };
    const environment = await executor.prepare(request, new Sink(), never);
    onTestFinished(() => environment.destroy(never));
    const later = stand().open({ host: `unix://${stand().dir}/nobody.sock` });
    onTestFinished(() => later.close(never));
    const said = await later.recover(request.jobKey, notes, never);
    expect(said.done).toEqual(expect.arrayContaining(["removed 2 containers", "removed 1 volume"]));
    expect(await later.recover(request.jobKey, notes, never)).toEqual({ done: [], left: [] });
  });

  it("what a dead process of this installation left is swept; what others made is not", async () => {
    const { environment } = await prepared({}, {});
    const stranger = await docker.createContainer({
      Image: imageName("sh"),
      Labels: {
        "alloy-runner.job-key": "like-ours",
        "alloy-runner.installation": "another",
        "alloy-runner.process": "1-1",
      },
    });
    onTestFinished(async () => void (await stranger.remove({ force: true })));
    const { abandonedJobs } = await import("../../executors/docker/clean-up/clean-up.ts");
    const { installationId } = await import("../../executors/common/installation.ts");
    const connected = await connectTo(engine);
    onTestFinished(() => connected.close());
    const installation = await installationId(join(stand().dir, "docker-installation"));
    expect(await abandonedJobs(connected, { installation, process: "a-later-one" }, never)).toHaveLength(1);
    expect(await abandonedJobs(connected, { installation: "unknown", process: "x" }, never)).toEqual([]);
    await environment.destroy(never);
    expect(await abandonedJobs(connected, { installation, process: "a-later-one" }, never)).toEqual([]);
    expect((await stranger.inspect()).Id).toBe(stranger.id);
  });
});

describe("an engine that goes away", () => {
  test("is named, and worth another try", async () => {
    const dir = mkdtempSync(join(tmpdir(), "alloy-away-"));
    onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
    const away = {
      kind: "docker" as const,
      host: `unix://${dir}/docker.sock`,
      docker: (await import("../support/docker.ts")).dockerAt(`unix://${dir}/x`),
      images: async () => {},
    };
    const stand = openDockerStand(away);
    onTestFinished(() => rmSync(stand.dir, { recursive: true, force: true }));
    const executor = stand.open();
    const failure = await executor.prepare(sampleRequest(), new Sink(), never).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(SystemFailure);
    expect(failure).toMatchObject({ retry: true });
    expect(String(failure)).toContain(`${dir}/docker.sock`);
    await executor.close(never);
  });
});
