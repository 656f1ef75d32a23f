import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { pipelineFor } from "../../src/commands/doctor/selftest.ts";
import { projectIdOf } from "../../src/commands/exec/here/places.ts";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { dockerAt, imageName, noEngine, testEngine } from "../support/docker.ts";
import { linesOf, openProject, type Project } from "../support/project.ts";
import { loginUser, type Sshd, type SshUser, sshdMissing, startSshd } from "../support/sshd.ts";

/** `exec` with jobs that do not run in a shell of this machine. */

const engine = await testEngine("docker");
const cluster = await useCluster();
const noSshd = sshdMissing();

let project: Project;
beforeEach(async () => {
  project = await openProject();
});
afterEach(async () => await project.close());

describe.skipIf(engine === null)(engine === null ? noEngine("docker") : "in containers", { timeout: 180_000 }, () => {
  const host = engine?.host ?? "";
  const flags = [
    ...["--executor", "docker", "--docker-host", host, "--docker-pull-policy", "never"],
    ...["--docker-image", imageName("sh"), "--docker-helper-image", imageName("git")],
  ];

  beforeAll(async () => await engine?.images("sh", "git", "user", "service"), 300_000);

  /** What this project's jobs have left at the engine. */
  async function leftovers(): Promise<string[]> {
    const docker = dockerAt(host);
    const filters = { label: [`com.gitlab.gitlab-runner.project.id=${projectIdOf(project.dir)}`] };
    const [containers, networks, volumes] = await Promise.all([
      docker.listContainers({ all: true, filters }),
      docker.listNetworks({ filters }),
      docker.listVolumes({ filters }),
    ]);
    return [
      ...containers.map(({ Names }) => Names.join()),
      ...networks.map(({ Name }) => Name),
      ...volumes.Volumes.map(({ Name }) => Name),
    ];
  }

  const PIPELINE = `
stages: [build, test]
compile:
  stage: build
  image: ${imageName("user")}
  script: ['echo "uid $(id -u)"', cat new, mkdir -p out kept, echo made > out/file, 'echo line >> kept/n; echo "runs $(wc -l < kept/n)"']
  artifacts: {paths: [out/]}
  cache: {key: k, paths: [kept/]}
unit:
  services: [{name: "${imageName("service")}", alias: web}]
  script: [cat out/file, "wget -qO- http://web:8080/", 'test ! -e kept']
`;

  test("the job by which doctor tries services finds its service, and does not where there is none", async () => {
    const pipeline = pipelineFor(imageName("sh"));
    const file = join(project.dir, ".gitlab-ci.yml");
    await writeFile(file, pipeline);
    const { code, stdout, stderr } = await project.exec([...flags, "service"]);
    expect(code, stdout + stderr).toBe(0);
    await writeFile(file, pipeline.replace(`"alias":"selftest-service"`, `"alias":"another"`));
    const without = await project.exec([...flags, "service"]);
    expect(without.code, without.stdout + without.stderr).toBe(1);
    expect(without.stdout).toContain("selftest-service is not known");
  });

  test("a pipeline with images, a service, uncommitted files, artifacts and a cache; nothing stays at the engine", async () => {
    await project.ciFile(PIPELINE);
    await writeFile(join(project.dir, "new"), "untracked\n");
    const { code, stdout, stderr } = await project.exec(flags);
    expect(code, stdout + stderr).toBe(0);
    expect(linesOf("compile", stdout)).toEqual(expect.arrayContaining(["uid 1000", "untracked", "runs 1"]));
    expect(linesOf("unit", stdout)).toEqual(expect.arrayContaining(["made", "hello"]));
    expect(stderr).not.toContain("uses no images");
    expect(await leftovers()).toEqual([]);

    // An entry of a configuration file; variables meant for other programs do not get in its way.
    const config = join(project.home, "config.toml");
    await writeFile(
      config,
      `[[runners]]\nname = "boxes"\nurl = "http://127.0.0.1:1/"\ntoken = "secret-token"\nexecutor = "docker"\n[runners.docker]\nhost = "${host}"\nimage = "${imageName("sh")}"\nhelper_image = "${imageName("git")}"\npull_policy = "never"\nvolumes = ["/cache"]\n`,
      { mode: 0o600 },
    );
    const second = await project.exec(["--config", config, "--runner", "boxes"], {
      env: { DOCKER_HOST: "unix:///nowhere", RUNNER_EXECUTOR: "shell" },
    });
    expect(second.code, second.stdout + second.stderr).toBe(0);
    expect(linesOf("compile", second.stdout)).toContain("runs 2");
    expect(await leftovers()).toEqual([]);
  });

  test("GitLab's file: a graph with images, services, reports, a matrix and a child pipeline", async () => {
    await writeFile(
      join(project.dir, ".gitlab-ci.yml"),
      `
stages: [build, test]
default: {image: {name: "${imageName("sh")}", entrypoint: [""]}}
compile:
  stage: build
  image: ${imageName("user")}
  script: ['echo "uid $(id -u)"', mkdir out, echo made > out/file, 'echo "V=told" > d.env']
  artifacts: {paths: [out/], reports: {dotenv: d.env}}
  hooks: {pre_get_sources_script: [echo before-sources]}
unit:
  needs: [compile]
  parallel: {matrix: [{OS: [a, b]}]}
  services: [{name: "${imageName("service")}", alias: web}]
  script: [cat out/file, "wget -qO- http://web:8080/", 'echo "$OS $V"']
child: {variables: {GIVEN: "$CI_PROJECT_NAME"}, trigger: {include: child.yml, strategy: depend}}
`,
    );
    await writeFile(
      join(project.dir, "child.yml"),
      `leaf: {image: "${imageName("sh")}", script: ['echo "leaf of $GIVEN"']}\n`,
    );
    const { code, stdout, stderr } = await project.exec([...flags, "-j", "2"]);
    expect(code, stdout + stderr).toBe(0);
    expect(linesOf("compile", stdout)).toEqual(expect.arrayContaining(["uid 1000"]));
    expect(linesOf("unit: [a]", stdout)).toEqual(expect.arrayContaining(["made", "hello", "a told"]));
    expect(linesOf("unit: [b]", stdout)).toEqual(expect.arrayContaining(["b told"]));
    expect(linesOf("child / leaf", stdout)).toContain("leaf of project");
    expect(await leftovers()).toEqual([]);
  });

  test("a status is the script's own, and Ctrl-C leaves nothing", async () => {
    await project.ciFile(`
fails: {script: [exit 42]}
hangs: {when: manual, script: [echo is-$((1+1))-ready; sleep 600]}
`);
    const { code, stdout } = await project.exec(flags);
    expect(code, stdout).toBe(42);
    const one = project.begin([...flags, "hangs"]);
    await one.seen(/is-2-ready/, { timeoutMs: 90_000 });
    expect((await one.stop("SIGINT")).code).toBe(130);
    expect(one.stdout()).toMatch(/hangs +test +canceled/);
    expect(await leftovers()).toEqual([]);
  });

  test("what a killed run has at an engine that only its flags named is removed by the next, whatever that runs", async () => {
    await project.ciFile("a: {script: ['echo \"project $CI_PROJECT_ID is-$((1+1))-ready\"; sleep 600']}");
    const one = project.begin(flags);
    await one.seen(/is-2-ready/, { timeoutMs: 90_000 });
    await one.stop("SIGKILL");
    expect((await leftovers()).length).toBeGreaterThan(1);
    await project.ciFile("a: {script: ['true']}");
    const next = await project.exec([]);
    expect(next.code, next.stdout + next.stderr).toBe(0);
    expect(await leftovers()).toEqual([]);
    expect(await readdir(join(project.base, "runs"))).toEqual([]);
  });
});

describe.skipIf(noSshd !== null)(noSshd ?? "on another host", { timeout: 180_000 }, () => {
  let sshd: Sshd;
  let user: SshUser;
  beforeAll(async () => {
    sshd = await startSshd();
    user = loginUser(sshd);
  });
  afterAll(async () => await sshd?.close());

  const flags = (): string[] => [
    ...["--executor", "ssh", "--ssh-host", sshd.host, "--ssh-port", String(sshd.port), "--ssh-user", user.name],
    ...["--ssh-identity-file", sshd.keyFile, "--ssh-known-hosts-file", sshd.knownHostsFile],
    ...["--builds-dir", join(user.home, "exec-builds")],
  ];
  const builds = async (): Promise<string[]> => await readdir(join(user.home, "exec-builds"));

  test("a pipeline with artifacts and a cache, and no working copy stays there", async () => {
    await project.ciFile(`
stages: [build, test]
compile: {stage: build, script: [cat new, mkdir -p out, chmod 555 out, whoami], cache: {key: k, paths: [new]}}
other: {stage: build, script: [mkdir made, echo made > made/file], artifacts: {paths: [made/]}}
unit: {script: [cat made/file]}
`);
    await writeFile(join(project.dir, "new"), "untracked\n");
    const { code, stdout, stderr } = await project.exec([...flags(), "--jobs", "2"]);
    expect(code, stdout + stderr).toBe(0);
    expect(linesOf("compile", stdout)).toEqual(expect.arrayContaining(["untracked", user.name]));
    expect(linesOf("unit", stdout)).toContain("made");
    expect(await builds()).toEqual([]);
  });

  test("GitLab's file: a graph with reports, retries, after_script and a child pipeline", async () => {
    await writeFile(
      join(project.dir, ".gitlab-ci.yml"),
      `
stages: [build, test]
compile: {stage: build, script: [mkdir out, echo made > out/file, 'echo "V=told" > d.env'], artifacts: {paths: [out/], reports: {dotenv: d.env}}}
again: {stage: build, retry: {max: 1, exit_codes: 3}, allow_failure: true, script: [whoami, exit 3], after_script: ['echo "after $CI_JOB_STATUS"']}
unit: {needs: [compile], script: [cat out/file, 'echo "V is $V"']}
child: {trigger: {include: child.yml, strategy: depend}}
`,
    );
    await writeFile(join(project.dir, "child.yml"), "leaf: {script: [whoami]}\n");
    const { code, stdout, stderr } = await project.exec([...flags(), "-j", "2"]);
    expect(code, stdout + stderr).toBe(0);
    expect(linesOf("unit", stdout)).toEqual(expect.arrayContaining(["made", "V is told"]));
    expect(linesOf("again", stdout)).toEqual(expect.arrayContaining([user.name, "after failed"]));
    expect(stdout).toContain("again: try 2 of 2");
    expect(linesOf("child / leaf", stdout)).toContain(user.name);
    expect(await builds()).toEqual([]);
  });

  test("what a killed run has there ends, too", async () => {
    await project.ciFile("a: {script: ['echo pid $$ is-$((1+1))-ready; sleep 600']}");
    const one = project.begin(flags());
    await one.seen(/is-2-ready/, { timeoutMs: 90_000 });
    expect(await builds()).toHaveLength(1);
    await one.stop("SIGKILL");
    await project.ciFile("a: {script: ['true']}");
    expect((await project.exec([])).code).toBe(0);
    await expect.poll(builds, { timeout: 60_000, interval: 100 }).toEqual([]);
    expect(await readdir(join(project.base, "runs"))).toEqual([]);
  });
});

describe.skipIf(cluster === null)(cluster === null ? noCluster : "in pods", { timeout: 180_000 }, () => {
  beforeAll(async () => await cluster?.images("sh", "git", "user", "service"), 300_000);

  const PIPELINE = `
stages: [build, test]
compile:
  stage: build
  image: ${imageName("user")}
  script: ['echo "uid $(id -u)"', cat new, mkdir -p out, echo made > out/file]
  artifacts: {paths: [out/]}
unit:
  services: [{name: "${imageName("service")}", alias: web, variables: {HEALTHCHECK_TCP_PORT: "8080"}}]
  script: [cat out/file, "wget -qO- http://web:8080/"]
`;

  test("a pipeline with images, a service, uncommitted files and artifacts; nothing stays in the cluster", async () => {
    if (cluster === null) throw new Error(noCluster);
    const namespace = await cluster.createNamespace();
    const flags = [
      ...[
        "--executor",
        "kubernetes",
        "--kubernetes-namespace",
        namespace,
        "--kubernetes-pull-policy",
        "if-not-present",
      ],
      ...["--kubernetes-image", imageName("sh"), "--kubernetes-helper-image", imageName("git")],
    ];
    await project.ciFile(PIPELINE);
    await writeFile(join(project.dir, "new"), "untracked\n");
    const { code, stdout, stderr } = await project.exec(flags, { env: { KUBECONFIG: cluster.kubeconfig } });
    expect(code, stdout + stderr).toBe(0);
    expect(linesOf("compile", stdout)).toEqual(expect.arrayContaining(["uid 1000", "untracked"]));
    expect(linesOf("unit", stdout)).toEqual(expect.arrayContaining(["made", "hello"]));
    await cluster.kubectl(["wait", "--for=delete", "pods", "--all", "-n", namespace, "--timeout=60s"]);
    expect(await cluster.kubectl(["get", "pods,secrets", "-n", namespace, "-o", "name"])).toBe("");
  });
});
