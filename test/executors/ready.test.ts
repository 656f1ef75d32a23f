import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { executors } from "../../executors/index.ts";
import { SystemFailure } from "../../src/errors.ts";
import type { Executor } from "../../src/executor/executor.ts";
import { never } from "../../src/time.ts";
import { type DepsOptions, executorDeps } from "../support/executor-deps.ts";

async function directory(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-ready-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

async function opened(name: string, tables: Record<string, unknown>, options: DepsOptions = {}): Promise<Executor> {
  const definition = await executors.load(name);
  const checked = Object.fromEntries(
    definition.tables.flatMap((table) =>
      table.name in tables ? [[table.name, table.schema.parse(tables[table.name])]] : [],
    ),
  );
  const executor = definition.create(checked, executorDeps(await directory(), options));
  onTestFinished(() => executor.close(never));
  return executor;
}

/** A port of this machine on which nobody listens. */
async function deadPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address !== null ? address.port : 0;
}

async function whyNot(executor: Executor): Promise<string> {
  if (executor.ready === undefined) throw new Error(`${executor.name} cannot tell`);
  const problem: unknown = await executor.ready(never).catch((error: unknown) => error);
  expect(problem).toBeInstanceOf(SystemFailure);
  return problem instanceof Error ? problem.message : "";
}

describe("an executor says why no job could run", () => {
  test("docker: nothing answers at the engine's address", async () => {
    const dir = await directory();
    const executor = await opened("docker", { docker: { host: `unix://${dir}/away.sock`, image: "a" } });
    expect(await whyNot(executor)).toContain(`the container engine at unix://${dir}/away.sock does not answer`);
    expect(executor.disks?.()).toEqual([]);
  });

  test("ssh: nobody listens there", async () => {
    const port = await deadPort();
    const table = { host: "127.0.0.1", port: String(port), user: "a", password: "b" };
    const executor = await opened("ssh", { ssh: { ...table, disable_strict_host_key_checking: true } });
    expect(await whyNot(executor)).toContain(`Cannot reach 127.0.0.1, port ${port}`);
  });

  test("kubernetes: the API does not answer", async () => {
    const host = `https://127.0.0.1:${await deadPort()}`;
    const executor = await opened("kubernetes", { kubernetes: { host, bearer_token: "a", image: "b" } });
    expect(await whyNot(executor)).toMatch(/no answer within|ECONNREFUSED/);
  }, 30_000);

  test("shell: builds_dir is below a file", async () => {
    const file = join(await directory(), "file");
    await writeFile(file, "");
    const executor = await opened("shell", {}, { buildsDir: join(file, "builds") });
    expect(await whyNot(executor)).toContain(`Cannot use ${join(file, "builds")} as directory for builds`);
  });

  test("shell: the disk of builds_dir can only be read", async ({ skip }) => {
    const disk = await directory();
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "ro", "tmpfs", disk], { stdio: "ignore" });
    } catch {
      return skip("only an account that may mount can make such a disk");
    }
    onTestFinished(() => void execFileSync("umount", ["-l", disk]));
    const executor = await opened("shell", {}, { buildsDir: join(disk, "builds") });
    expect(await whyNot(executor)).toContain("as directory for builds");
    execFileSync("mount", ["-o", "remount,rw", disk]);
    await expect
      .poll(async () => await executor.ready?.(never).then(() => "yes", String), { timeout: 10_000 })
      .toBe("yes");
    expect(executor.disks?.()).toEqual([join(disk, "builds")]);
  });
});
