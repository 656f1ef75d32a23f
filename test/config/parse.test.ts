import { describe, expect, test } from "vitest";
import { executors } from "../../executors/index.ts";
import { problemLine } from "../../src/errors.ts";
import { noMeter } from "../../src/executor/deps.ts";
import { createLog } from "./log-stand.ts";
import { createCatalog, entry, type Opened, read, refusal } from "./support.ts";

const host = { working: "/w", scratch: "/s", keepDir: "/k", env: {} };

describe("defaults and units", () => {
  test("an empty file is one job at once and no runners", async () => {
    expect(await read("")).toMatchObject({
      concurrent: 1,
      checkIntervalMs: 3000,
      logLevel: undefined,
      metricsAddress: "",
      debugEndpoints: false,
      stateDir: "/var/lib/alloy-runner",
      minFreeDiskBytes: 256 * 1024 * 1024,
      outboxMaxAgeMs: 7 * 86_400_000,
      shutdownTimeoutMs: 30_000,
      connectionMaxAgeMs: 900_000,
      runners: [],
      warnings: [],
    });
  });

  test("an entry with four keys has every default", async () => {
    const { runners, warnings } = await read(entry());
    expect(warnings).toEqual([]);
    expect(runners[0]).toMatchObject({
      name: "a",
      token: "secret-token",
      limit: Number.POSITIVE_INFINITY,
      requestConcurrency: 1,
      outputLimitBytes: 4096 * 1024,
      unhealthyRequestsLimit: 3,
      unhealthyIntervalMs: 3_600_000,
      prepareTimeoutMs: null,
      environment: [],
      killLeftovers: true,
      gitSslNoVerify: false,
      shell: undefined,
      certsDir: "/etc/alloy-runner/certs",
    });
    expect(runners[0]?.id).toMatch(/^[0-9a-f]{8}$/);
    expect(runners[0]?.shortToken).toBe("");
    expect(runners[0]?.url.href).toBe("https://ci.example.com/");
  });

  test("numbers and texts become one set of units", async () => {
    const config = await read(
      `concurrent = 4\ncheck_interval = 10\nlog_level = "WARNING"\nlog_format = "runner"\nlisten_address = ":9252"
shutdown_timeout = 60\nconnection_max_age = "1h30m"\nmin_free_disk = "1.5GiB"\noutbox_max_age = 120\nstate_dir = "state"\nlive_key_file = "live.key"
${entry('limit = 2\noutput_limit = 100\nrequest_concurrency = 0\nunhealthy_interval = "2m"\nprepare_timeout = "15m0s"\nenvironment = ["A=b=c", "E="]\npre_clone_script = "x"')}`,
    );
    expect(config).toMatchObject({
      concurrent: 4,
      checkIntervalMs: 10_000,
      logLevel: "warn",
      logFormat: "text",
      metricsAddress: ":9252",
      debugEndpoints: false,
      shutdownTimeoutMs: 60_000,
      connectionMaxAgeMs: 5_400_000,
      minFreeDiskBytes: 1.5 * 2 ** 30,
      outboxMaxAgeMs: 120_000,
      stateDir: "/etc/alloy-runner/state",
      liveKeyFile: "/etc/alloy-runner/live.key",
    });
    expect(config.runners[0]).toMatchObject({
      limit: 2,
      outputLimitBytes: 102_400,
      requestConcurrency: 1,
      unhealthyIntervalMs: 120_000,
      prepareTimeoutMs: 900_000,
      environment: [
        { key: "A", value: "b=c" },
        { key: "E", value: "" },
      ],
      preCloneScript: "x",
    });
  });

  test.each(["0", "-5"])("check_interval = %s means the default", async (value) => {
    expect((await read(`check_interval = ${value}`)).checkIntervalMs).toBe(3000);
  });

  test("a zero never means an instant limit", async () => {
    const config = await read(
      `shutdown_timeout = 0\noutbox_max_age = 0\n${entry("output_limit = 0\nlimit = 0\nunhealthy_interval = 0\nunhealthy_requests_limit = 0\nprepare_timeout = 0")}`,
    );
    expect(config).toMatchObject({ shutdownTimeoutMs: 30_000, outboxMaxAgeMs: 7 * 86_400_000 });
    expect(config.runners[0]).toMatchObject({
      outputLimitBytes: 4096 * 1024,
      limit: Number.POSITIVE_INFINITY,
      unhealthyIntervalMs: 3_600_000,
      unhealthyRequestsLimit: 3,
      prepareTimeoutMs: null,
    });
  });

  test("empty texts are as good as absent", async () => {
    const config = await read(
      `log_level = ""\nlisten_address = ""\nmetrics_server = ":1"\nstate_dir = ""\nuser = ""\n${entry('shell = ""\nbuilds_dir = ""')}`,
    );
    expect(config).toMatchObject({
      logLevel: undefined,
      metricsAddress: ":1",
      debugEndpoints: false,
      stateDir: "/var/lib/alloy-runner",
      user: undefined,
    });
    expect(config.runners[0]).toMatchObject({ shell: undefined, buildsDir: undefined });
    expect(config.warnings).toEqual([]);
  });

  test("key names match whatever their case", async () => {
    const config = await read(
      'Concurrent = 7\n[[Runners]]\nNAME="x"\nURL="http://h"\nToken="t"\nExecutor="docker"\n[Runners.Docker]\nImage="i"\nSHM_size=3\n',
    );
    expect(config.concurrent).toBe(7);
    expect(config.runners).toHaveLength(1);
    expect(config.warnings).toEqual([]);
  });

  test("CRLF and a byte order mark change nothing, and scripts get plain line breaks", async () => {
    const text = `\uFEFFconcurrent = 3\n${entry('pre_build_script = """\na\nb"""')}`.replaceAll("\n", "\r\n");
    const config = await read(text);
    expect(config.concurrent).toBe(3);
    expect(config.runners[0]?.preBuildScript).toBe("a\nb");
  });

  test("the result is frozen to the bottom", async () => {
    const config = await read(entry('environment = ["A=1"]'));
    expect(Object.isFrozen(config)).toBe(true);
    expect(Object.isFrozen(config.runners)).toBe(true);
    expect(Object.isFrozen(config.runners[0])).toBe(true);
    expect(Object.isFrozen(config.runners[0]?.environment[0])).toBe(true);
  });
});

describe("executors", () => {
  const docker = (tables: string): string =>
    `[[runners]]\nname="d"\nurl="http://h"\ntoken="t"\nexecutor="docker"\nshell="sh"\nbuilds_dir="/b"\nkill_leftovers=false\ninherit_environment=["NIX_*"]\n${tables}`;

  test("an executor gets its checked tables and what the entry says", async () => {
    const opened: Opened[] = [];
    const config = await read(
      docker(
        '[runners.docker]\nimage="ruby"\ntmpfs={"/x"="rw"}\n[[runners.docker.services]]\nname="pg"\nalias="db"\n[runners.cache]\nType="s3"\nBucketName="b"\n',
      ),
      { catalog: createCatalog(opened) },
    );
    expect(config.warnings).toEqual([]);
    const log = createLog();
    config.runners[0]?.openExecutor({ log, host, meter: noMeter, user: "u" });
    expect(opened[0]?.tables.docker).toMatchObject({
      image: "ruby",
      privileged: false,
      services: [{ name: "pg", alias: "db" }],
    });
    expect(Object.isFrozen(opened[0]?.tables.docker)).toBe(true);
    expect(opened[0]?.deps).toEqual({
      log,
      host,
      meter: noMeter,
      entry: { buildsDir: "/b", shell: "sh", killLeftovers: false, killGraceMs: 10_000 },
      shell: { user: "u", inheritEnvironment: ["NIX_*"] },
    });
  });

  test("scripts may outlive the runner where the executor can, unless the entry or all say otherwise", async () => {
    const shell = (text: string): string =>
      `[[runners]]\nname="s"\nurl="http://h"\ntoken="s${text.length}"\nexecutor="shell"\n${text}\n`;
    const durableOf = async (text: string): Promise<unknown> => {
      const opened: Opened[] = [];
      const { runners } = await read(text, { catalog: createCatalog(opened) });
      for (const runner of runners) runner.openExecutor({ log: createLog(), host, meter: noMeter, user: undefined });
      return opened.map(({ deps }) => deps.entry.durable ?? false);
    };
    const all = [shell(""), shell("durable = true"), shell("durable = false"), docker("[runners.docker]\n")].join("");
    expect(await durableOf(all)).toEqual([true, true, false, false]);
    expect(await durableOf(`durable = true\n${all}`)).toEqual([true, true, false, false]);
    expect(await durableOf(`durable = false\n${all}`)).toEqual([false, true, false, false]);
    const { runners } = await read(all);
    expect(runners.map(({ durable, durableAsked }) => [durable, durableAsked])).toEqual([
      [true, undefined],
      [true, true],
      [false, undefined],
      [false, undefined],
    ]);
    const { warnings } = await read(docker('durable = true\n[runners.docker]\nimage="ruby"\n'));
    expect(warnings.join()).toMatch(/durable.*has no effect with executor "docker"/);
  });

  test("of what outlives its connection alone the runner keeps nothing", async () => {
    const tables = '[runners.docker]\nimage="ruby"\n[runners.ssh]\nuser="root"\npassword="x"\n';
    const text = `[[runners]]\nname="s"\nurl="http://h"\ntoken="t"\nexecutor="docker-ssh"\ndurable = true\n${tables}`;
    const { runners, warnings } = await read(text, { catalog: executors });
    expect(warnings.filter((one) => one.includes("durable"))).toEqual([]);
    expect(runners).toMatchObject([{ durable: false }]);
    expect(runners[0]).not.toHaveProperty("durableAsked");
  });

  test.each([
    ["", 10_000],
    ['shutdown_timeout = "1h"\n', 10_000],
    ["shutdown_timeout = 8\n", 4000],
  ])("a job that ignores SIGTERM is gone in time with %j", async (global, killGraceMs) => {
    const opened: Opened[] = [];
    const config = await read(`${global}${entry()}`, { catalog: createCatalog(opened) });
    config.runners[0]?.openExecutor({ log: createLog(), host, meter: noMeter, user: undefined });
    expect(opened[0]?.deps.entry.killGraceMs).toBe(killGraceMs);
  });

  test("a missing table is an error that names it", async () => {
    expect(await refusal(docker(""))).toMatch(
      /config\.toml:5: runners\.docker of "d": .*needs the table \[runners\.docker\]/,
    );
  });

  test("an unknown executor is an error with the known ones", async () => {
    const message = await refusal(entry().replace('"shell"', '"shel"'));
    expect(message).toContain('config.toml:5: runners.executor of "a"');
    expect(message).toContain('Use one of "shell", "docker", "ssh", "tool". Did you mean "shell"?');
    expect(await refusal(entry().replace('"shell"', '"docker-windows"'))).toContain("not available in this version");
  });

  test("a shell that the executor cannot run is an error", async () => {
    expect(await refusal(entry('shell = "cmd"'))).toMatch(
      /:6: runners\.shell of "a": executor "shell" cannot run "cmd"\. Use one of/,
    );
    expect(await refusal(entry('shell = "pash"'))).toMatch(/expected one of .*Did you mean "bash"\?/);
  });

  test("the executor's own check is heard", async () => {
    const text = `${entry().replace('"shell"', '"ssh"')}[runners.ssh]\nport = "22"\n`;
    expect(await refusal(text)).toContain("needs a host");
  });

  test("tables of other executors are left alone", async () => {
    const { warnings } = await read(`${entry()}[runners.docker]\nprivileged = "no matter"\n[runners.ssh.volumes]\n`);
    expect(warnings).toEqual([]);
  });

  test("a strict schema still gets a warning for an unknown key, not an error", async () => {
    const { warnings } = await read(`${entry().replace('"shell"', '"ssh"')}[runners.ssh]\nHost = "h"\nhots = "x"\n`);
    expect(warnings).toEqual([
      '/etc/alloy-runner/config.toml:9: runners.ssh.hots of "a" is not a known key. Did you mean "host"? It has no effect',
    ]);
  });
});

describe("what is refused", () => {
  test.each([
    ['concurrent = "4"', '1: concurrent: expected a whole number, found the text "4". Write concurrent = 4'],
    [
      "\n\nconcurrent = 0",
      "3: concurrent: expected a whole number from 1 to 100000. 0 does not mean unlimited, found 0",
    ],
    ["concurrent = -1", "1: concurrent: expected a whole number from 1"],
    ["concurrent = 2.0", "1: concurrent: expected a whole number, found 2.0. Write it as 2"],
    ["concurrent = 1e300", "1: concurrent: expected a whole number, found 1e300"],
    ["concurrent = 18446744073709551617", "1: concurrent: 18446744073709551617 is too large a number"],
    ["concurrent = 9223372036854775807", "1: concurrent: 9223372036854775807 is too large a number"],
    ["concurrent = [1]", "1: concurrent: expected a whole number, found a list"],
    ["check_interval = 1e400", "1: check_interval: expected a whole number, found 1e400"],
    ['log_level = "verbos"', '1: log_level: expected one of "debug"'],
    ['log_level = "inf"', 'Did you mean "info"?'],
    ["log_level = 3", "1: log_level: expected text in quotes, found 3"],
    ['min_free_disk = "lots"', '1: min_free_disk: expected a size such as "256MiB"'],
    ["min_free_disk = -1", "1: min_free_disk: expected a size"],
    ['outbox_max_age = "1s"', "1: outbox_max_age: expected a duration of at least 60 s"],
    ["shutdown_timeout = -1", "1: shutdown_timeout: expected a duration"],
    ["shutdown_timeout = 9007199254740991", "1: shutdown_timeout: expected a duration"],
    ['user = "a\\u0000b"', "1: user holds a NUL character"],
    ["concurrent = 1\nCONCURRENT = 2", "2: CONCURRENT is set twice"],
    ["[runners]\nname = 1", "1: runners: expected a list of tables: write [[runners]]"],
    ["runners = [1]", "1: runners[0]: expected a table"],
    [entry("limit = -1"), '6: runners.limit of "a": expected at least 0, found -1'],
    [entry("output_limit = -5"), '6: runners.output_limit of "a"'],
    [entry("limit = true"), '6: runners.limit of "a": expected a whole number, found true'],
    [entry('environment = "A=1"'), '6: runners.environment of "a": expected a list in [ ], found another text'],
    [entry('environment = ["A=1",\n "B"]'), 'its entry 2 has no name before a "="'],
    [entry('environment = ["=x"]'), 'its entry 1 has no name before a "="'],
    [entry("environment = [1]"), '6: runners.environment[0] of "a": expected text in quotes, found 1'],
    [entry('kill_leftovers = "false"'), 'expected true or false, found the text "false". Write kill_leftovers = false'],
    [entry().replace("https://", ""), '3: runners.url of "a": "ci.example.com" has no scheme'],
    [entry().replace("https://ci.example.com", "localhost:3000"), '"localhost:3000" has no scheme'],
    [entry().replace("https://", "ftp://"), "is neither http nor https"],
    [entry().replace("ci.example.com", ""), "is not a valid address"],
    [entry().replace("ci.example.com", "$NOT_THERE"), "$NOT_THERE is not set in the runner's environment"],
    [entry("", ""), '4: runners.token of "a" is empty. Put the runner\'s token here'],
    [entry("", "$EMPTY"), 'runners.token of "a" is empty'],
    [entry("", "a b"), "holds blanks"],
    [`[[runners]]\nname="z"\nurl="http://h"\nexecutor="shell"`, '1: runners.token of "z" is missing'],
    [`${entry()}[[Runners]]\nname="z"`, 'is the same as "runners" in another case'],
  ])("%j", async (text, expected) => {
    const message = await refusal(text);
    expect(message).toContain(expected);
    expect(message).toMatch(/^\/etc\/alloy-runner\/config\.toml:\d+: /);
    expect(message).not.toContain("secret-token");
  });

  test("the executor's tables are checked by line too", async () => {
    const text = `${entry().replace('"shell"', '"docker"')}[runners.docker]\nprivileged = "true"\nshm_size = 1.5\npull_policy = "alway"\ntmpfs = {a = 1}\n`;
    const message = await refusal(text);
    expect(message.split("\n")).toEqual([
      '/etc/alloy-runner/config.toml:8: runners.docker.privileged of "a": expected true or false, found the text "true". Write privileged = true',
      '/etc/alloy-runner/config.toml:9: runners.docker.shm_size of "a": expected a whole number, found 1.5',
      expect.stringContaining('config.toml:10: runners.docker.pull_policy of "a": expected one of "always"'),
      '/etc/alloy-runner/config.toml:11: runners.docker.tmpfs.a of "a": expected text in quotes, found 1. Write a = "1"',
    ]);
  });

  test("how long jobs may wait is read with its periods, and what is wrong there has its line", async () => {
    const table = (lines: string): string => `${entry()}[[runners.monitoring.job_queuing_durations]]\n${lines}\n`;
    const { runners, warnings } = await read(
      table(
        'periods = ["* 9-17 * * mon-fri"]\ntimezone = "UTC"\nthreshold = "5m"\njobs_running_for_project = "^[0-4]$"',
      ),
    );
    expect(warnings).toEqual([]);
    const [limit] = runners[0]?.queuingLimits ?? [];
    expect(limit).toMatchObject({ thresholdSeconds: 300, runningForProject: /^[0-4]$/ });
    const [period] = limit?.periods ?? [];
    expect([period?.(new Date("2026-11-30T12:00:00Z")), period?.(new Date("2026-11-29T12:00:00Z"))]).toEqual([
      true,
      false,
    ]);
    const message = await refusal(table('periods = ["* * *"]\njobs_running_for_project = "("'));
    expect(message.split("\n")).toEqual([
      expect.stringMatching(/config.toml:8: runners.monitoring.job_queuing_durations.*"\* \* \*" is no period/),
      expect.stringMatching(/config.toml:9: .*jobs_running_for_project.*"\(" is no regular expression/),
    ]);
    expect(await refusal(table('periods = ["* * * * *"]\ntimezone = "Mars"'))).toContain('"Mars" is no time zone');
    expect(await refusal(table('threshold = "1m"'))).toContain("needs periods");
  });

  test("all problems come at once, in the order of the file, with the first line on the error", async () => {
    const error = await read(`concurrent = 0\nlog_level = "x"\n${entry("limit = -1")}`).catch(
      (caught: unknown) => caught,
    );
    expect(error).toMatchObject({ name: "ConfigError", line: 1, file: "/etc/alloy-runner/config.toml" });
    expect(String(error).split("\n")).toHaveLength(3);
  });

  test("an entry that cannot be used is set aside, with what is known of it; the others are taken", async () => {
    const other = (lines: string): string => `[[runners]]\n${lines}\n`;
    const { runners, broken, warnings } = await read(
      [
        "concurrent = 7",
        entry("", "t1"),
        other('name="unknown"\nurl="https://ci.example.com"\ntoken="t2"\nexecutor="shel"\nlimt=1'),
        other('name="without table"\nurl="https://ci.example.com"\ntoken="t3"\nexecutor="docker"'),
        other(
          'name="bad value"\nurl="https://ci.example.com"\ntoken="t4"\nexecutor="docker"\n[runners.docker]\nprivileged=1',
        ),
        other('name="no address"\nurl="ci.example.com"\ntoken="t5"\nexecutor="shell"'),
        other('name="no token"\nurl="https://ci.example.com"\nexecutor="shell"'),
        other('name="bad key"\nurl="https://ci.example.com"\ntoken="t7"\nexecutor="shell"\nlimit="x"'),
        entry("", "t8"),
      ].join("\n"),
    );
    expect(runners.map(({ token }) => token)).toEqual(["t1", "t8"]);
    expect(broken.map(({ name, line, executor }) => [name, line, executor])).toEqual([
      ["unknown", 13, "shel"],
      ["without table", 20, "docker"],
      ["bad value", 28, "docker"],
      ["no address", 32, "shell"],
      ["no token", 36, "shell"],
      ["bad key", 46, "shell"],
    ]);
    expect(broken.map(({ problems }) => problems.length)).toEqual([1, 1, 1, 1, 1, 1]);
    expect(broken[0]?.problems.map(problemLine)).toEqual([
      expect.stringMatching(/config\.toml:13: runners\.executor of "unknown": .*"shell"/),
    ]);
    expect(broken.map(({ reach }) => reach?.token ?? null)).toEqual(["t2", "t3", "t4", null, null, null]);
    expect(broken.map(({ id }) => id === "")).toEqual([false, false, false, false, true, false]);
    expect(warnings.join()).toContain('runners.limt of "unknown"');
  });

  test("a program that is not there breaks its entry, at the line that names it", async () => {
    const findProgram = async (program: string): Promise<string | null> => `no ${program} here`;
    const text = entry("[runners.tool]\npath = '/opt/tool'\n").replace('"shell"', '"tool"');
    const { broken } = await read(text, { catalog: createCatalog(), findProgram });
    expect(broken[0]?.problems.map(problemLine)).toEqual([
      '/etc/alloy-runner/config.toml:7: runners.tool.path of "a": no /opt/tool here',
    ]);
    expect((await read(text, { catalog: createCatalog() })).broken).toEqual([]);
  });

  test("a problem in the second entry names that one", async () => {
    const second = '[[runners]]\nurl="http://h"\ntoken="u"\nexecutor="shell"\nlimit="x"\n';
    expect(await refusal(entry() + second)).toContain("config.toml:11: runners.limit of entry 2:");
  });

  test("messages hold no secrets", async () => {
    const message = await refusal(
      `${entry("", "se cret")}[[runners]]\nname="b"\nurl="https://me:hidden@h h"\ntoken=["geheim"]\nexecutor="ssh"\n[runners.ssh]\nhost="h"\npassword=["hidden"]\nport=22\n`,
    );
    expect(message).toContain("runners.ssh.port");
    for (const secret of ["se cret", "hidden", "geheim"]) expect(message).not.toContain(secret);
  });
});

describe("odd files", () => {
  test.each([
    ["an open quote", 'a = 1\nname = "x\nb = 1\n', 2],
    ["an open text of many lines", `a = 1\nb = """\n${"x\n".repeat(50)}`, 2],
    ["an open list", `a = 1\nb = [\n1,\n2\n${"# x\n".repeat(50)}`, 2],
    ["a key without value", "a = 1\nb =\n", 2],
    ["words", "this is no toml", 1],
    ["a key twice", "concurrent = 1\nlog_level = 'info'\nconcurrent = 2\n", 3],
    ["a table twice", "[a]\nb=1\n[a]\nc=1\n", 3],
    ["a NUL byte", "concurrent = 1\n\0\n", 2],
    ["a list below a table of that name", "[runners]\na=1\n[[runners]]\n", 3],
    ["a half-written file", entry().slice(0, -30), 4],
  ])("%s is refused with its line", async (_, text, line) => {
    const error = await read(text).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ name: "ConfigError", line });
    expect(String(error)).not.toContain("secret-token");
  });

  test.each([
    ["lists", `a = ${"[".repeat(200_000)}`],
    ["closed lists", `a = ${"[".repeat(50_000)}${"]".repeat(50_000)}`],
    ["tables", `a = ${"{a=".repeat(50_000)}1${"}".repeat(50_000)}`],
    ["dotted keys", `${"a.".repeat(50_000)}a = 1`],
    ["headers", `[${"a.".repeat(50_000)}a]`],
    ["values", `a = [${"1,".repeat(500_000)}]`],
    ["keys", Array.from({ length: 150_000 }, (_, index) => `k${index}=1`).join("\n")],
  ])("too many nested or plain %s are refused soon", async (_, text) => {
    const started = performance.now();
    expect(await refusal(text)).toMatch(/nested deeper than|more than 50000 values/);
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test("key names of JavaScript's own are names like others", async () => {
    const { warnings } = await read(
      `__proto__ = 1\nconstructor = 2\ntoString = 3\n${entry("__proto__ = {concurrent = 5}\nhasOwnProperty = 1")}[runners.docker.__proto__]\nx = 1\n`,
    );
    expect(warnings).toHaveLength(5);
    expect("x" in {}).toBe(false);
    const text = `${entry().replace('"shell"', '"docker"')}[runners.docker]\ntmpfs = {constructor="x", __proto__="y"}\n`;
    expect((await read(text)).runners).toHaveLength(1);
  });

  test("thousands of entries are read", async () => {
    const text = Array.from({ length: 5000 }, (_, index) => entry("", `t${index}`)).join("");
    const started = performance.now();
    expect((await read(text)).runners).toHaveLength(5000);
    expect(performance.now() - started).toBeLessThan(10_000);
  });
});

describe("warnings", () => {
  const warningsOf = async (text: string): Promise<string> => (await read(text)).warnings.join("\n");

  test.each([
    ["concurent = 3", '1: concurent is not a known key. Did you mean "concurrent"?'],
    ["checkInterval = 3", '1: checkInterval is not a known key. Did you mean "check_interval"?'],
    ["nonsense_altogether = 3", "1: nonsense_altogether is not a known key. It has no effect"],
    [entry("tls_ca_file = 'x'"), '6: runners.tls_ca_file of "a" is not a known key. Did you mean "tls-ca-file"?'],
    [entry("\nconcurrent = 4"), '7: runners.concurrent of "a" is a global key, but it stands below [[runners]]'],
    [`name = "x"\n${entry()}`, "1: name is a key of [[runners]], but it stands above them all"],
    [`${entry()}[runners.cache]\nlimit = 3`, "is a key of [[runners]], but it stands below [runners.cache]"],
    [`${entry()}[runners.cache]\nlog_level = "info"`, "is a global key, but it stands below [runners.cache]"],
    [entry("privileged = true"), "is no key of [[runners]], but one of [runners.docker]"],
    ["[experimental]\nkey='x'", "1: experimental is known to GitLab Runner, not supported here (yet)"],
    [entry("clean_git_config = true"), "is known to GitLab Runner, not supported here (yet)"],
    [`${entry()}[runners.dokcer]\nimage='x'`, '7: runners.dokcer of "a" is not a known key. Did you mean "docker"?'],
    [`${entry()}[runners.custom]\nrun_exec='x'`, "is known to GitLab Runner"],
    [`${entry()}[runners.cache]\nBucketNam='x'`, 'Did you mean "BucketName"?'],
    [`${entry()}\n${entry()}`, '8: runners of "a" has the url and token of the entry in line 1'],
    ["listen_address = ':1'\nmetrics_server = ':2'", "2: metrics_server has no effect beside listen_address"],
    ["sentry_dsn = 'https://k@example.com/1'", "1: sentry_dsn has no effect"],
    [
      entry('clone_url = "mirror.example.com"'),
      '6: runners.clone_url of "a" has no effect: expected an address that begins with https://',
    ],
    [
      entry("pre_clone_script = 'a'\npre_get_sources_script = 'b'"),
      '6: runners.pre_clone_script of "a" has no effect beside',
    ],
  ])("%j", async (text, expected) => {
    const warnings = await warningsOf(text);
    expect(warnings).toContain(expected);
    expect(warnings.split("\n")).toHaveLength(1);
    expect(warnings).not.toContain("secret-token");
  });

  test("a docker key that only GitLab Runner reads is said to be that", async () => {
    const text = `${entry().replace('"shell"', '"docker"')}[runners.docker]\ngpus = "all"\n`;
    expect(await warningsOf(text)).toContain('8: runners.docker.gpus of "a" is known to GitLab Runner');
  });

  test("tolerated keys are silent", async () => {
    const text = entry(
      "id = 3\ntoken_obtained_at = 2024-01-01T00:00:00Z\ntoken_expires_at = 0001-01-01T00:00:00Z\n[runners.feature_flags]\nFF_NETWORK_PER_BUILD = true\nFF_RESOLVE_FULL_TLS_CHAIN = false\nFF_SCRIPT_SECTIONS = false\nFF_USE_PARALLEL_CACHE_TRANSFER = true\nFF_USE_DOCKER_AUTOSCALER_DIAL_STDIO = false\n[runners.cache]\n[runners.ssh]\nport=22",
    );
    expect(await warningsOf(text)).toBe("");
  });

  test("feature flags that ask for something else than what is so here are named, each with its line", async () => {
    const flags = ["FF_TIMESTAMPS = 1", "FF_NETWORK_PER_BUILD = false", "FF_HASH_CACHE_KEY = true", "FF_ODD = 1"];
    const more = [
      "FF_KUBERNETES_ANYTHING = true",
      "FF_SCRIPT_SECTIONS = true",
      "FF_USE_DOCKER_AUTOSCALER_DIAL_STDIO = true",
    ];
    const text = entry(`[runners.feature_flags]\n${[...flags, ...more].join("\n")}\n`);
    const lines = (await warningsOf(text)).split("\n");
    const start = text.slice(0, text.indexOf("FF_TIMESTAMPS")).split("\n").length;
    expect(lines).toHaveLength(5);
    expect(lines[0]).toContain(
      `:${start}: runners.feature_flags.FF_TIMESTAMPS of "a" has no effect: expected true or false`,
    );
    expect(lines[1]).toMatch(/FF_NETWORK_PER_BUILD of "a" has no effect: .* always on/);
    expect(lines[2]).toContain('is not a known feature flag. Did you mean "FF_HASH_CACHE_KEYS"? It has no effect');
    expect(lines[3]).toContain("FF_ODD");
    expect(lines[4]).toContain(`:${start + 4}: runners.feature_flags.FF_KUBERNETES_ANYTHING`);
    expect(await warningsOf(entry('feature_flags = "FF_X"'))).toContain("expected a table of flags");
  });

  test("labels of all entries and of one go together; what GitLab would refuse is refused here", async () => {
    const text = `[labels]\nlocation = "hall-2"\nowner = "x"\n${entry("[runners.labels]\nowner = 'team.a'\n")}`;
    const { runners } = await read(text);
    expect(runners.map(({ labels }) => labels)).toEqual([{ location: "hall-2", owner: "team.a" }]);
    for (const label of ["ab = 'x'", "abc = ''", "abc = 'with blank'", "'a b c' = 'x'"])
      expect(await refusal(entry(`[runners.labels]\n${label}\n`))).toMatch(/labels.*expected names of 3 to 65/);
    const many = Array.from({ length: 33 }, (_, index) => `label${index} = "x"`).join("\n");
    expect(await refusal(entry(`[runners.labels]\n${many}\n`))).toContain("at most 32 labels, found 33");
    const [one, other] = await Promise.all([read(text), read(text.replace("hall-2", "hall-3"))]);
    expect(one.runners[0]?.fingerprint).not.toBe(other.runners[0]?.fingerprint);
  });

  test("bounds of uploads", async () => {
    const { runners, warnings } = await read(
      entry("[runners.artifact]\nupload_timeout = '2h'\nresponse_header_timeout = 30\n"),
    );
    expect([warnings, runners[0]?.artifact]).toEqual([[], { uploadTimeoutMs: 7_200_000, answerTimeoutMs: 30_000 }]);
    expect(await warningsOf(entry("[runners.artifact]\nupload_timeot = '2h'\n"))).toContain(
      'Did you mean "upload_timeout"?',
    );
  });

  test("isolation of Windows containers is said to have no effect", async () => {
    const text = `${entry().replace('"shell"', '"docker"')}[runners.docker]\nimage = "ruby:3.3"\nisolation = "hyperv"\n`;
    expect((await read(text, { catalog: executors })).warnings).toEqual([
      expect.stringContaining('runners.docker.isolation of "a" is known to GitLab Runner, not supported here'),
    ]);
  });

  test("very many warnings are cut off with a count", async () => {
    const text = Array.from({ length: 500 }, (_, index) => `odd${index}=1`).join("\n");
    const { warnings } = await read(text);
    expect(warnings).toHaveLength(31);
    expect(warnings[30]).toContain("and 470 more");
  });
});

describe("url and token", () => {
  test("variables are put in from the environment", async () => {
    const text = '[[runners]]\nurl="https://${CI_HOST}/ci"\ntoken="$RUNNER_TOKEN"\nexecutor="shell"\n';
    const { runners } = await read(text);
    expect(runners[0]?.url.href).toBe("https://ci.example.com/ci");
    expect(runners[0]?.token).toBe("from-env");
    expect(runners[0]?.name).toBe(runners[0]?.id);
  });

  test("a doubled dollar is one", async () => {
    expect((await read(entry("", "a$$b"))).runners[0]?.token).toBe("a$b");
  });
});

describe("fingerprints", () => {
  const fingerprint = async (text: string, more = {}): Promise<string | undefined> =>
    (await read(text, more)).runners[0]?.fingerprint;

  test("comments, order and other entries leave it alone", async () => {
    const one = await fingerprint(entry("limit = 1\nshell = 'bash'"));
    expect(
      await fingerprint(`# hello\nconcurrent = 9\n${entry("shell = 'bash' # x\nlimit = 1")}${entry("", "other")}`),
    ).toBe(one);
    expect(one).not.toContain("secret");
  });

  test("every value that matters changes it", async () => {
    const texts = [
      entry(),
      entry("limit = 1"),
      entry("", "t2"),
      `${entry()}[runners.docker]\nimage='x'`,
      `check_interval = 9\n${entry()}`,
      `user = "u"\n${entry()}`,
    ];
    const prints = await Promise.all(texts.map((text) => fingerprint(text)));
    prints.push(await fingerprint(entry("", "$RUNNER_TOKEN")));
    prints.push(await fingerprint(entry("", "$RUNNER_TOKEN"), { env: { RUNNER_TOKEN: "another" } }));
    expect(new Set(prints).size).toBe(prints.length);
  });
});

test("what does not concern an executor leaves its fingerprint as it is", async () => {
  const table = '[runners.docker]\nimage="ruby"\n';
  const head = '[[runners]]\nname="d"\nurl="http://h"\ntoken="t"\nexecutor="docker"\n';
  const of = async (text: string, global = "") => (await read(`${global}${head}${text}`)).runners[0];
  const before = await of(table);
  const renamed = await of(table, "check_interval = 7\n");
  expect(renamed?.fingerprint).not.toBe(before?.fingerprint);
  expect(renamed?.executorFingerprint).toBe(before?.executorFingerprint);
  expect((await of(table.replace("ruby", "go")))?.executorFingerprint).not.toBe(before?.executorFingerprint);
  expect((await of(table, 'user = "ci"\n'))?.executorFingerprint).not.toBe(before?.executorFingerprint);
});

test.each<[boolean, string]>([
  [true, ""],
  [false, 'volumes = ["/srv/builds:/builds"]'],
  [false, 'volumes = ["/srv/builds:/work/x"]\n[runners.custom_build_dir]\nenabled = false'],
  [true, 'volumes = ["/srv/builds:/builds"]\n[runners.custom_build_dir]\nenabled = true'],
])("whether jobs choose their directory: %j with %j", async (expected, volumes) => {
  const text = entry(`[runners.docker]\nimage = "ruby"\n${volumes}`).replace('"shell"', '"docker"');
  const { runners } = await read(text, { catalog: executors });
  expect(runners[0]?.customBuildDir).toBe(expected);
});
