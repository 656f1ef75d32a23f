import { execFileSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GitSpec, JobSpec, LocalJob } from "../src/local/coordinator/jobs/job.ts";
import { createRepository, serveGit } from "../test/job/git-server.ts";
import { cpuSeconds, type Figure, residentMb, type Scene, type SceneOptions, withScene } from "./scene.ts";
import { overSsh, type TransferPlace, withContainers } from "./transfer-places.ts";

/** 230 MB of text in 40 files as an artifact and a cache: the whole job, which only copies them. */
export async function artifacts(): Promise<readonly Figure[]> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-bench-files-"));
  try {
    for (let file = 0; file < 40; file++) {
      const lines = Array.from(
        { length: 80_000 },
        (_, line) => `[${line}] compiling module number ${line * 7 + file} of the project, all is well\n`,
      );
      await writeFile(join(dir, `file-${file}`), lines.join(""));
    }
    return await withScene(
      { dialect: "gitlab", switches: { bodyLimitBytes: 1e9 } },
      async ({ coordinator, runner }) => {
        const job = coordinator.enqueue({
          script: [`cp -r ${dir} out`],
          artifacts: { paths: ["out/"] },
          cache: { key: "bench", paths: ["out/"] },
        });
        const update = await job.reported({ timeoutMs: 120_000 });
        if (update.state !== "success" || job.artifacts.length === 0) throw new Error(`the job failed:\n${job.trace}`);
        return [
          {
            name: "artifact and cache of 230 MB text in 40 files",
            value: (update.at - (job.pickedUpAt ?? 0)) / 1000,
            unit: "s",
            target: 8,
            bound: "at most",
          },
          {
            name: "memory meanwhile, peak",
            value: residentMb(runner.pid).peak,
            unit: "MB",
            target: 250,
            bound: "at most",
          },
        ];
      },
    );
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** This project's dependencies without their binaries: some ten thousand files, nearly all of them small. */
const TREE = `cd '${join(import.meta.dirname, "../node_modules")}' && find . -type f -size -9M ! -name '*.node' ! -path './.bin/*' -print0 | tar c --null -T - | tar x -C `;

interface Timed {
  readonly seconds: number;
  readonly cpu: number;
}

const NOW = 'echo "printed-at $(date +%s.%N)"';

/**
 * A job whose script prints the time at its begin and its end.
 * @returns from the pick-up to the script, and from its end to the report; processor time is the runner's, of all of the job
 */
async function timed(
  { coordinator, runner }: Scene,
  spec: JobSpec,
): Promise<{ before: number; after: number; cpu: number; job: LocalJob }> {
  const cpu = cpuSeconds(runner.pid);
  const job = coordinator.enqueue({ ...spec, script: [NOW, ...(spec.script ?? []), NOW] });
  const update = await job.reported({ timeoutMs: 300_000 });
  if (update.state !== "success") throw new Error(`the job failed:\n${job.trace}`);
  const [begin = Number.NaN, end = Number.NaN] = [...job.trace.matchAll(/^printed-at (\d+\.\d+)/gm)].map((match) =>
    Number(match[1]),
  );
  return {
    before: begin - (job.pickedUpAt ?? 0) / 1000,
    after: update.at / 1000 - end,
    cpu: cpuSeconds(runner.pid) - cpu,
    job,
  };
}

/** A tree of many small files as an artifact and a cache, against the tools that do nothing else, in each place where jobs run. */
export async function transfers(): Promise<readonly Figure[]> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-bench-tree-"));
  try {
    await chmod(dir, 0o755);
    await mkdir(join(dir, "tree"));
    execFileSync("bash", ["-c", `${TREE}'${join(dir, "tree")}'`]);
    const sha = createRepository(join(dir, "git/group/project")).git("rev-parse", "HEAD");
    const server = await serveGit(join(dir, "git"));
    const git = { repoUrl: `${server.origin}/group/project`, sha, ref: "main" };
    try {
      const measure = (place: TransferPlace): Promise<readonly Figure[]> => besideTools(dir, git, place);
      const here = await measure({ name: "shell", scene: {} });
      return [...here, ...(await orNone(overSsh(measure))), ...(await orNone(withContainers(dir, measure)))];
    } finally {
      await server.close();
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** What one place cannot have says nothing of the others. */
async function orNone(figures: Promise<readonly Figure[]>): Promise<readonly Figure[]> {
  return await figures.catch((error: unknown) => {
    process.stderr.write(`${String(error)}\n`);
    process.exitCode = 1;
    return [];
  });
}

type Tool = "zip" | "pack" | "unpack";
const TOOLS: Readonly<Record<Tool, string>> = {
  zip: "zip -q -6 -r a.zip tree",
  pack: "tar c tree | zstd -q -1 -T2 -o a.zst",
  unpack: "mkdir out && zstd -dcq a.zst | tar x -C out",
};

/** A job that runs the tools: so they work in the place where jobs do, with its disk and its account. */
async function toolsAt({ coordinator }: Scene, copy: string): Promise<Readonly<Record<Tool, Timed>>> {
  const each = Object.entries(TOOLS).map(
    ([name, command]) => `TIMEFORMAT='tool-${name} %R %U %S'; time { ${command}; } 2>/dev/null`,
  );
  const job = coordinator.enqueue({ variables: { GIT_STRATEGY: "empty" }, script: [copy, ...each] });
  const { state } = await job.reported({ timeoutMs: 300_000 });
  const timeOf = (tool: Tool): Timed => {
    const found = new RegExp(`^tool-${tool} ([\\d.]+) ([\\d.]+) ([\\d.]+)`, "m").exec(job.trace);
    if (state !== "success" || found === null) throw new Error(`the tools failed:\n${job.trace}`);
    return { seconds: Number(found[1]), cpu: Number(found[2]) + Number(found[3]) };
  };
  return { zip: timeOf("zip"), pack: timeOf("pack"), unpack: timeOf("unpack") };
}

async function besideTools(
  dir: string,
  git: GitSpec,
  { name: where, scene: its }: TransferPlace,
): Promise<readonly Figure[]> {
  const options: SceneOptions = { dialect: "gitlab", switches: { bodyLimitBytes: 1e9 }, ...its };
  return await withScene(options, async (scene) => {
    const copy = `cp -r '${join(dir, "tree")}' tree`;
    const tools = await toolsAt(scene, copy);
    const cache = { key: "tree", paths: ["tree/"] };
    const plain = await timed(scene, { script: [copy], git });
    const artifact = await timed(scene, { script: [copy], git, artifacts: { paths: ["tree/"] } });
    const saved = await timed(scene, { script: [copy], git, cache });
    const restored = await timed(scene, { script: [], git, cache });
    const again = await timed(scene, { script: [], git, cache });
    const figure = (name: string, value: number, unit: string, target: number): Figure => ({
      name: `${where}: ${name}`,
      value,
      unit,
      target,
      bound: "at most",
    });
    const ratio = (name: string, seconds: number, cpu: number, tool: Timed, target: number): Figure[] => [
      figure(`${name}, of the tool's ${tool.seconds.toFixed(2)} s`, seconds / tool.seconds, "×", target),
      figure(
        `  its processor time (runner, whole job), of the tool's ${tool.cpu.toFixed(2)} s`,
        cpu / tool.cpu,
        "×",
        target,
      ),
    ];
    const restoring = restored.before - plain.before;
    const { zip, pack, unpack } = tools;
    return [
      ...ratio("artifact of a tree, `zip -6`", artifact.after - plain.after, artifact.cpu, zip, 0.2),
      ...ratio("cache saved, `tar | zstd -1 -T2`", saved.after - plain.after, saved.cpu, pack, 1.6),
      ...ratio("cache restored, `zstd -d | tar x`", restoring, restored.cpu, unpack, 1.6),
      figure("cache restored where nothing has changed", again.before - plain.before, "s", 0.25),
      figure("  of its unpacking", (again.before - plain.before) / restoring, "×", 0.25),
      figure("unchanged cache looked at", again.after - plain.after, "s", 0.25),
      figure("memory of the runner meanwhile, peak", residentMb(scene.runner.pid).peak, "MB", 160),
    ];
  });
}
