import { execFileSync, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { openRecord } from "../executors/docker/kept/record.ts";
import { dockerAt, testEngine } from "../test/support/docker.ts";
import { program } from "../test/support/program.ts";
import { type Figure, median } from "./scene.ts";

const IMAGES = 500;
const AT_ONCE = 4;

/** `gc --dry-run` over so many images that the runner is said to have brought in. */
export async function housekeeping(): Promise<readonly Figure[]> {
  const engine = await testEngine("docker");
  if (engine === null) throw new Error("no container engine answers");
  const docker = dockerAt(engine.host);
  const dir = await mkdtemp(join(tmpdir(), "alloy-bench-gc-"));
  const stateDir = join(dir, "state");
  const names = Array.from({ length: IMAGES }, (_, index) => `alloy-bench-gc:${index}`);
  try {
    await mkdir(stateDir, { mode: 0o700 });
    const record = await openRecord(stateDir, engine.host);
    await each(names, async (name) => {
      const [repo, tag] = name.split(":");
      const progress = await docker.importImage(Readable.from([await imageOf(dir, name)]), { repo, tag });
      await once(progress.resume(), "end");
      const { Id } = await docker.getImage(name).inspect();
      await record.brought(Id, [name]);
    });
    const file = join(dir, "config.toml");
    await writeFile(
      file,
      `state_dir = "${stateDir}"\n[housekeeping]\nimages = "1KB"\n[[runners]]\nname = "gc"\nurl = "http://127.0.0.1:1"\ntoken = "t"\nexecutor = "docker"\n[runners.docker]\nhost = "${engine.host}"\nimage = "x"\n`,
      { mode: 0o600 },
    );
    const [command, ...args] = program();
    const times: number[] = [];
    for (let i = 0; i < 5; i++) {
      const begin = performance.now();
      const { stdout, stderr } = spawnSync(command, [...args, "gc", "--dry-run", "--json", "--config", file], {
        encoding: "utf8",
        maxBuffer: 64 * 2 ** 20,
      });
      times.push((performance.now() - begin) / 1000);
      const found = stdout.split("alloy-bench-gc:").length - 1;
      if (found < IMAGES) throw new Error(`gc named ${found} images of ${IMAGES}\n${stdout.slice(0, 500)}${stderr}`);
    }
    const name = `\`gc --dry-run\` over ${IMAGES} images, median`;
    return [{ name, value: median(times), unit: "s", target: 2, bound: "at most" }];
  } finally {
    await each(
      names,
      async (name) =>
        void (await docker
          .getImage(name)
          .remove()
          .catch(() => {})),
    );
    await rm(dir, { recursive: true, force: true });
  }
}

async function each(names: readonly string[], work: (name: string) => Promise<void>): Promise<void> {
  const left = [...names];
  const worker = async (): Promise<void> => {
    for (let name = left.shift(); name !== undefined; name = left.shift()) await work(name);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

/** A layer with one small file. */
async function imageOf(dir: string, name: string): Promise<Buffer> {
  await writeFile(join(dir, name), name.repeat(100));
  return execFileSync("tar", ["-c", "-C", dir, name]);
}
