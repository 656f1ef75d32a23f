import { chmod, mkdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { testEngine } from "../support/docker.ts";
import { emptyHome, registering, runProgram, start } from "../support/program.ts";

const engine = await testEngine("docker");
let home: Awaited<ReturnType<typeof emptyHome>>;
let coordinator: LocalCoordinator;
let file: string;

beforeEach(async () => {
  home = await emptyHome();
  coordinator = await startCoordinator({ dialect: "alloy" });
  file = join(home.dir, "config.toml");
});
afterEach(async () => {
  await coordinator.close();
  await home.dispose();
});

const run = (args: readonly string[], more: { env?: Record<string, string>; stdin?: string } = {}) =>
  runProgram(args, { home: home.dir, ...more });

function flags(...more: string[]): string[] {
  return registering({ config: file, url: coordinator.url, token: coordinator.registrationToken }, ...more);
}

describe("register", () => {
  test("by flags writes an entry with mode 0600 and the coordinator has the runner", async () => {
    const result = await run(
      flags("--name", "build-07", "--tag-list", "linux, node", "--limit", "2", "--env", "A=1", "--env", "B=x=y"),
    );
    expect(result.code, result.stderr).toBe(0);
    const text = await readFile(file, "utf8");
    expect(text).toContain('name = "build-07"');
    expect(text).toContain("limit = 2");
    expect(text).toContain("B=x=y");
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(coordinator.runners).toHaveLength(1);
    expect(coordinator.runners[0]?.tags).toEqual(["linux", "node"]);
    expect(text).toContain(coordinator.runners[0]?.token);
    expect(result.stdout + result.stderr).not.toContain(coordinator.runners[0]?.token);
    expect(result.stdout + result.stderr).not.toContain(coordinator.registrationToken);
  });

  test("by environment variables, and with Go's single-dash long flags", async () => {
    const result = await run(["register", "-non-interactive", "-config", file, "-name=from-flags"], {
      env: {
        CI_SERVER_URL: coordinator.url,
        REGISTRATION_TOKEN: coordinator.registrationToken,
        RUNNER_EXECUTOR: "shell",
        RUNNER_TAG_LIST: "a,b",
        REGISTER_RUN_UNTAGGED: "",
      },
    });
    expect(result.code, result.stderr).toBe(0);
    expect(await readFile(file, "utf8")).toContain('name = "from-flags"');
    expect(coordinator.runners[0]?.tags).toEqual(["a", "b"]);
  });

  test("by answers from a pipe, asking again what cannot be", async () => {
    const answers = [
      "not a url",
      coordinator.url,
      coordinator.registrationToken,
      "piped",
      "",
      "yes",
      "nonsense",
      "shell",
    ];
    const result = await run(["register", "-c", file], { stdin: `${answers.join("\n")}\n` });
    expect(result.code, result.stderr).toBe(0);
    expect(result.stderr).toContain("is no URL");
    expect(await readFile(file, "utf8")).toContain('name = "piped"');
  });

  test("asks for a far host, and where it is reached by SSH", async () => {
    const answers = [coordinator.url, coordinator.registrationToken, "far", "", "yes", "ssh"];
    const far = ["build-07", "2222", "builder", "tell-nobody", "/keys/id"];
    const result = await run(["register", "-c", file], { stdin: `${[...answers, ...far].join("\n")}\n` });
    expect(result.code, result.stderr).toBe(0);
    expect(result.stdout + result.stderr).not.toContain("tell-nobody");
    const text = await readFile(file, "utf8");
    const table = text.slice(text.indexOf("[runners.ssh]"));
    for (const line of [
      'host = "build-07"',
      'port = "2222"',
      'user = "builder"',
      'password = "tell-nobody"',
      'identity_file = "/keys/id"',
    ]) {
      expect(table).toContain(line);
    }
  });

  test("of programs of the operator's: by flags and GitLab Runner's environment names, and not without them", async () => {
    const custom = flags("--name", "mine", "--builds-dir", "/builds").map((word) =>
      word === "shell" ? "custom" : word,
    );
    const none = await run(custom);
    expect(none.code).toBe(1);
    expect(none.stderr).toContain("--custom-run-exec is needed");
    const lost = await run([...custom, "--custom-run-exec", "/nowhere/run"]);
    expect(lost.code).toBe(1);
    expect(lost.stderr).toContain("/nowhere/run cannot be started (ENOENT)");
    expect(coordinator.runners).toHaveLength(0);
    const made = await run(
      [...custom, "--custom-run-exec", "/bin/true", "--custom-run-args", "a", "--custom-run-args", "b c"],
      {
        env: { CUSTOM_CONFIG_EXEC: "true", CUSTOM_CLEANUP_EXEC_TIMEOUT: "60", CUSTOM_GRACEFUL_KILL_TIMEOUT: "5" },
      },
    );
    expect(made.code, made.stderr).toBe(0);
    const text = await readFile(file, "utf8");
    expect(text).toMatch(/\[runners\.custom\]/);
    for (const line of [
      'run_exec = "/bin/true"',
      'run_args = ["a", "b c"]',
      'config_exec = "true"',
      "cleanup_exec_timeout = 60",
      "graceful_kill_timeout = 5",
    ])
      expect(text.replace(/\[ /g, "[").replace(/ \]/g, "]")).toContain(line);
    expect((await run(["list", "-c", file])).code).toBe(0);
  });

  test("without a way to log in to the far host nothing is registered; an agent is one", async () => {
    const ssh = (...more: string[]) =>
      run(flags("--executor", "ssh", "--ssh-host", "build-07", "--ssh-user", "builder", ...more));
    const refused = await ssh();
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("names no way to log in. Set identity_file, agent = true or password");
    expect(coordinator.runners).toHaveLength(0);
    const result = await ssh("--ssh-agent", "/run/agent", "--ssh-host-key-fingerprint", `SHA256:${"A".repeat(43)}`);
    expect(result.code, result.stderr).toBe(0);
    const text = await readFile(file, "utf8");
    expect(text).toContain('agent = "/run/agent"');
    expect(text).toContain(`host_key_fingerprint = "SHA256:${"A".repeat(43)}"`);
    expect(coordinator.runners).toHaveLength(1);
  });

  test("input that ends too early is an error that says what to do, and nothing is registered", async () => {
    const result = await run(["register", "-c", file], { stdin: `${coordinator.url}\n` });
    expect(result.code).toBe(1);
    expect(result.stderr).toContain("--non-interactive");
    expect(coordinator.runners).toHaveLength(0);
  });

  test("keeps comments, unknown keys and order of the rest of the file", async () => {
    const before = `# my runner\nconcurrent = 4 # cores\nmystery = "kept"\n\n# the first\n[[runners]]\n  name = "one"\n  url = "${coordinator.url}"\n  token = "abc"\n  executor = "shell"\n  # end\n`;
    await writeFile(file, before, { mode: 0o644 });
    const result = await run(flags("--name", "two"));
    expect(result.code, result.stderr).toBe(0);
    const after = await readFile(file, "utf8");
    expect(after.startsWith(before)).toBe(true);
    expect(after).toContain('name = "two"');
    expect((await stat(file)).mode & 0o077).toBe(0);
  });

  test.each([
    ["no URL", ["--url", "ci.example.com"], /--url/],
    ["another scheme", ["--url", "ftp://ci.example.com"], /https/],
    ["an executor that does not exist", ["--executor", "shel"], /shell/],
    ["a limit that is no number", ["--limit", "many"], /--limit/],
    ["an environment entry without =", ["--env", "NOVALUE"], /NOVALUE|environment/],
    ["a CA file that is not there", ["--tls-ca-file", "/nonexistent/ca.pem"], /\/nonexistent\/ca\.pem/],
    ["a switch that is no boolean", ["--locked=perhaps"], /--locked/],
  ])("%s is refused before the coordinator hears of it", async (_, more, message) => {
    const result = await run(flags(...more));
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(message);
    expect(result.stderr).not.toMatch(/\n\s+at /);
    expect(coordinator.requests).toHaveLength(0);
  });

  test("a broken configuration is refused before the coordinator hears of it, with its line", async () => {
    await writeFile(file, "concurrent = 1\nbroken = [\n", { mode: 0o600 });
    const result = await run(flags());
    expect(result.code).toBe(1);
    expect(result.stderr).toContain(`${file}:`);
    expect(coordinator.requests).toHaveLength(0);
  });

  test("a wrong registration token says so", async () => {
    const result = await run(registering({ config: file, url: coordinator.url, token: "wrong-token-value" }));
    expect(result.code).toBe(1);
    expect(result.stderr).toContain("registration token");
    expect(result.stderr).not.toContain("wrong-token-value");
  });

  test("a coordinator that is away says so", async () => {
    const away = coordinator.url;
    await coordinator.close();
    const result = await run(registering({ config: file, url: away, token: "x" }));
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/ECONNREFUSED|refused/);
  });

  test("a token that cannot be saved is given back, and the error says so", async () => {
    // The entry can be checked and the directory can be written, but the file is a link to a place without room.
    await mkdir(join(home.dir, "full"));
    await symlink("/dev/full", join(home.dir, "full", "config.toml"));
    const result = await run(
      registering({
        config: join(home.dir, "full", "config.toml"),
        url: coordinator.url,
        token: coordinator.registrationToken,
      }),
    );
    expect(result.code).toBe(1);
    expect(coordinator.runners).toHaveLength(0);
  });

  test("ten at once all win", async () => {
    const results = await Promise.all(
      Array.from({ length: 10 }, (_, index) => run(flags("--name", `runner-${index}`))),
    );
    expect(results.map((result) => result.code)).toEqual(Array.from({ length: 10 }, () => 0));
    const text = await readFile(file, "utf8");
    for (let index = 0; index < 10; index++) expect(text).toContain(`"runner-${index}"`);
  });

  test("Ctrl-C while the coordinator thinks ends it with a message", async () => {
    coordinator.intercept = ({ endpoint }) => (endpoint === "register" ? { kind: "silence" } : undefined);
    const running = start(flags(), { home: home.dir });
    await coordinator.waitForRequest(({ endpoint }) => endpoint === "register");
    const { code } = await running.stop("SIGINT");
    expect(code).toBe(1);
    expect(running.stderr()).toMatch(/SIGINT/);
  });
});

describe("list, verify, unregister", () => {
  test("list shows entries with hashed tokens, and works on an empty and on a bad file", async () => {
    const empty = await run(["list", "-c", file]);
    expect(empty.code).toBe(0);
    await run(flags("--name", "listed"));
    const token = coordinator.runners[0]?.token ?? "";
    const result = await run(["list", "-c", file]);
    expect(result.code).toBe(0);
    expect(result.stdout).toContain("listed");
    expect(result.stdout).not.toContain(token);
    expect(result.stdout).not.toContain(token.slice(0, 8));
    await writeFile(file, `${await readFile(file, "utf8")}\n[[runners]]\nname = "odd"\nexecutor = "nonesuch"\n`);
    const odd = await run(["list", "-c", file]);
    expect(odd.code).toBe(1);
    expect(odd.stdout).toContain("odd");
    expect(odd.stdout).toContain("listed");
    expect(odd.stderr).toMatch(/1 entry cannot be used:\n\S+config\.toml:\d+: .*nonesuch/s);
    await writeFile(file, "concurrent = 0\n");
    expect((await run(["list", "-c", file])).code).toBe(1);
  });

  test("an entry that cannot be used is told from the others, and never lost", async () => {
    await run(flags("--name", "sound"));
    await run(flags("--name", "broken"));
    const text = (await readFile(file, "utf8")).replace(/executor = "shell"\s*$/, 'executor = "nonesuch" # mine\n');
    await writeFile(file, text);
    const verified = await run(["verify", "-c", file, "--delete"]);
    expect(verified.code).toBe(1);
    expect(verified.stdout).toMatch(/"sound".*is alive\n"broken" cannot be used: .*config\.toml:\d+: .*nonesuch/);
    expect((await run(["verify", "-c", file, "--name", "sound"])).code).toBe(0);
    const added = await run(flags("--name", "third"));
    expect(added.code, added.stderr).toBe(0);
    expect(await readFile(file, "utf8")).toContain('executor = "nonesuch" # mine\n');
    expect((await run(["unregister", "-c", file, "--name", "sound"])).code).toBe(0);
    expect(await readFile(file, "utf8")).toContain('name = "broken"');
    // The token can be given back as long as the coordinator is known.
    const gone = await run(["unregister", "-c", file, "--name", "broken"]);
    expect(gone.code, gone.stderr).toBe(0);
    expect(await readFile(file, "utf8")).not.toContain('"broken"');
    expect(coordinator.runners).toHaveLength(1);
    await writeFile(file, (await readFile(file, "utf8")).replace("http://", ""));
    const kept = await run(["unregister", "-c", file, "--name", "third"]);
    expect(kept.code).toBe(1);
    expect(kept.stderr).toMatch(/"third" stays in .*config\.toml:\d+: .*url/);
  });

  test("verify tells the living from the dead, and deletes only what is surely dead", async () => {
    await run(flags("--name", "alive"));
    await run(flags("--name", "removed"));
    const [, gone] = coordinator.runners;
    const text = await readFile(file, "utf8");
    await writeFile(file, text.replace(gone?.token ?? "", "unknown-token-value"));
    const before = await run(["verify", "-c", file]);
    expect(before.code).toBe(1);
    expect(before.stdout).toMatch(/"alive".*is alive/);
    expect(before.stdout).toMatch(/"removed".*not known/);
    const after = await run(["verify", "-c", file, "--delete"]);
    expect(after.code, after.stderr).toBe(0);
    expect(await readFile(file, "utf8")).not.toContain('"removed"');
    coordinator.intercept = ({ endpoint }) => (endpoint === "verify" ? { kind: "status", status: 500 } : undefined);
    const unclear = await run(["verify", "-c", file, "--delete"]);
    expect(unclear.code).toBe(1);
    expect(await readFile(file, "utf8")).toContain('"alive"');
  });

  // An entry whose engine is away asks for no job.
  test.skipIf(engine === null)(
    "GitLab hears the same of the runner from register --token and verify as from job requests",
    async () => {
      const gitlab = await startCoordinator({ dialect: "gitlab" });
      try {
        const { token } = gitlab.addRunner();
        const told = async (endpoint: string): Promise<unknown> => {
          const { body } = await gitlab.waitForRequest((request) => request.endpoint === endpoint);
          return JSON.parse(String(body)).info;
        };
        const more = ["--executor", "docker", "--docker-image", "ruby:3.3", "--docker-host", engine?.host ?? ""];
        const made = await run(["register", "-n", "-c", file, "--url", gitlab.url, "--token", token, ...more]);
        expect(made.code, made.stderr).toBe(0);
        const first = await told("verify");
        expect(first).toMatchObject({ executor: "docker", features: { image: true, cancel_gracefully: true } });
        const asked = gitlab.waitForRequest(({ endpoint }) => endpoint === "verify", { future: true });
        expect((await run(["verify", "-c", file])).code).toBe(0);
        expect(JSON.parse(String((await asked).body)).info).toEqual(first);
        await writeFile(file, `state_dir = "${home.dir}/state"\n${await readFile(file, "utf8")}`);
        const running = start(["run", "-c", file], { home: home.dir });
        try {
          expect(await told("job_request")).toEqual(first);
        } finally {
          await running.stop();
        }
      } finally {
        await gitlab.close();
      }
    },
  );

  test("unregister by name, by url and token, and all", async () => {
    for (const name of ["a", "b", "c", "d"]) await run(flags("--name", name));
    expect((await run(["unregister", "-c", file, "--name", "a"])).code).toBe(0);
    const token = coordinator.runners[0]?.token ?? "";
    const byToken = await run(["unregister", "-c", file, "-u", coordinator.url, `--token=${token}`]);
    expect(byToken.code, byToken.stderr).toBe(0);
    expect(coordinator.runners).toHaveLength(2);
    expect((await run(["unregister", "-c", file])).code).toBe(1);
    expect((await run(["unregister", "-c", file, "--name", "nobody"])).code).toBe(1);
    expect((await run(["unregister", "-c", file, "--all-runners"])).code).toBe(0);
    expect(coordinator.runners).toHaveLength(0);
    expect(await readFile(file, "utf8")).not.toContain("[[runners]]");
  });

  test("unregister keeps the entry when the coordinator did not confirm", async () => {
    await run(flags("--name", "kept"));
    coordinator.intercept = () => ({ kind: "status", status: 502 });
    const result = await run(["unregister", "-c", file, "--name", "kept"]);
    expect(result.code).toBe(1);
    expect(await readFile(file, "utf8")).toContain('"kept"');
  });
});

test("help, version and mistakes in the command line", async () => {
  const version = await run(["--version"]);
  expect(version.code).toBe(0);
  expect(version.stdout).toMatch(/^alloy-runner \d+\.\d+\.\d+/);
  expect((await run(["--help"])).stdout).toContain("register");
  expect((await run(["run", "--help"])).code).toBe(0);
  expect((await run([])).code).toBe(0);
  expect((await run(["registre"])).code).toBe(1);
  expect((await run(["registre"])).stderr).toContain("register");
  expect((await run(["list", "--no-such-flag"])).code).toBe(1);
  expect((await run(["--log-level", "loud", "list"])).code).toBe(1);
});

test("an unreadable configuration is an error that names the file", async () => {
  await writeFile(file, "concurrent = 1\n");
  if (process.getuid?.() === 0) {
    // Root may read every file, so a directory stands in the file's place, which root cannot read either.
    const result = await run(["run", "-c", home.dir]);
    expect(result.code).toBe(1);
    expect(result.stderr).toContain(home.dir);
  } else {
    await chmod(file, 0);
    const result = await run(["run", "-c", file]);
    expect(result.code).toBe(1);
    expect(result.stderr).toContain(file);
  }
});
