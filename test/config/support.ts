import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { z } from "zod";
import { executors } from "../../executors/index.ts";
import type { Config } from "../../src/config/config.ts";
import { demandSound, type ParseOptions, parseConfig } from "../../src/config/load.ts";
import type { ExecutorDeps } from "../../src/executor/deps.ts";
import {
  defineExecutor,
  type Executor,
  type ExecutorCatalog,
  type ExecutorDefinition,
} from "../../src/executor/executor.ts";
import type { ExecutorWords } from "../../src/executor/words.ts";
import { wordsOf } from "../support/words.ts";

/** Tables that count as those of other runners are those that the program itself knows. */
function foreignKeysOf(name: string): Pick<ExecutorWords, "foreignKeys"> {
  return { foreignKeys: executors.words.find((words) => words.name === name)?.foreignKeys ?? {} };
}

/** The settings that an executor of these tests was opened with. */
export interface Opened {
  readonly tables: Readonly<Record<string, unknown>>;
  readonly deps: ExecutorDeps;
}

/** Executors that record how they were opened and do nothing else. */
export function createCatalog(opened: Opened[] = []): ExecutorCatalog {
  const create = (tables: Readonly<Record<string, unknown>>, deps: ExecutorDeps): Executor => {
    opened.push({ tables, deps });
    return {
      name: "test",
      title: "Test",
      features: { variables: true, image: false, services: false, shared: true },
      shell: deps.entry.shell ?? "bash",
      prepare: () => Promise.reject(new Error("not in these tests")),
      recover: () => Promise.resolve({ done: [], left: [] }),
      close: () => Promise.resolve(),
    };
  };
  const definitions: Readonly<Record<string, ExecutorDefinition>> = {
    shell: defineExecutor({
      ...wordsOf("shell", foreignKeysOf("shell")),
      tables: [],
      shells: ["bash", "sh", "pwsh"],
      canOutlive: "runner",
      outlivesUnasked: true,
      create,
    }),
    docker: defineExecutor({
      ...wordsOf("docker", foreignKeysOf("docker")),
      tables: [
        {
          name: "docker",
          required: true,
          schema: z.object({
            image: z.string().optional(),
            privileged: z.boolean().default(false),
            cpus: z.union([z.string(), z.number()]).optional(),
            shm_size: z.int().min(0).default(0),
            volumes: z.array(z.string()).default([]),
            pull_policy: z.enum(["always", "if-not-present", "never"]).default("always"),
            tmpfs: z.record(z.string(), z.string()).default({}),
            services: z
              .array(z.union([z.string(), z.object({ name: z.string(), alias: z.string().optional() })]))
              .default([]),
          }),
        },
      ],
      shells: ["bash", "sh"],
      create,
    }),
    ssh: defineExecutor({
      ...wordsOf("ssh", foreignKeysOf("ssh")),
      tables: [
        {
          name: "ssh",
          required: true,
          schema: z.strictObject({
            host: z.string().optional(),
            port: z.string().optional(),
            password: z.string().optional(),
          }),
        },
      ],
      shells: ["bash", "sh"],
      create,
      check: ({ ssh }) =>
        typeof ssh === "object" && ssh !== null && "host" in ssh ? null : "the table [runners.ssh] needs a host",
    }),
    tool: defineExecutor({
      ...wordsOf("tool", {}),
      tables: [{ name: "tool", required: true, schema: z.object({ path: z.string() }) }],
      shells: ["bash"],
      create,
      programs: ({ tool }) => [
        { table: "tool", key: "path", program: z.object({ path: z.string() }).parse(tool).path },
      ],
    }),
  };
  return {
    names: Object.keys(definitions),
    words: Object.values(definitions),
    absent: executors.absent,
    load(name) {
      const found = definitions[name];
      return found === undefined ? Promise.reject(new Error(`no ${name}`)) : Promise.resolve(found);
    },
  };
}

export function parseOptions(more: Partial<ParseOptions> = {}): ParseOptions {
  return {
    file: "/etc/alloy-runner/config.toml",
    catalog: createCatalog(),
    env: { CI_HOST: "ci.example.com", RUNNER_TOKEN: "from-env", EMPTY: "" },
    workingDirectory: "/work-dir",
    certsDir: "/etc/alloy-runner/certs",
    defaultStateDir: "/var/lib/alloy-runner",
    ...more,
  };
}

export function read(text: string, more: Partial<ParseOptions> = {}): Promise<Config> {
  return parseConfig(text, parseOptions(more));
}

/** The message that refuses `text`, or its entries. */
export async function refusal(text: string, more: Partial<ParseOptions> = {}): Promise<string> {
  try {
    demandSound(await read(text, more));
  } catch (error) {
    if (error instanceof Error && error.name === "ConfigError") return error.message;
    throw error;
  }
  throw new Error("was taken");
}

/** A sound entry with `more` below its own keys. */
export function entry(more = "", token = "secret-token"): string {
  return `[[runners]]\nname = "a"\nurl = "https://ci.example.com"\ntoken = "${token}"\nexecutor = "shell"\n${more}\n`;
}

/** A directory of this test, removed afterwards. */
export async function makeDir(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-config-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

export async function write(path: string, text: string | Buffer, mode = 0o600): Promise<void> {
  await writeFile(path, text);
  await chmod(path, mode);
}
