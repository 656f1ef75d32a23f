import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GitSpec, JobSpec, LocalJob } from "../src/local/coordinator/jobs/job.ts";
import { cpuSeconds, type Figure, residentMb, type Scene, withRepository, withScene } from "./scene.ts";

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

/** Seconds that a command takes, and processor time of everything that it starts. */
function timeCommand(dir: string, command: string): Timed {
  const begin = performance.now();
  const times = execFileSync("bash", ["-c", `{ ${command}; } >/dev/null 2>&1; times`], { cwd: dir, encoding: "utf8" });
  const seconds = (performance.now() - begin) / 1000;
  const children = times.trim().split("\n").at(-1) ?? "";
  const parts = [...children.matchAll(/(\d+)m([\d.]+)s/g)].map((part) => Number(part[1]) * 60 + Number(part[2]));
  return { seconds, cpu: parts.reduce((sum, part) => sum + part, 0) };
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

/** A tree of many small files as an artifact and a cache, against the tools that do nothing else. */
export async function transfers(): Promise<readonly Figure[]> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-bench-tree-"));
  try {
    await mkdir(join(dir, "tree"));
    execFileSync("bash", ["-c", `${TREE}'${join(dir, "tree")}'`]);
    const zip = timeCommand(dir, "zip -q -6 -r a.zip tree");
    const pack = timeCommand(dir, "tar c tree | zstd -q -1 -T2 -o a.zst");
    const unpack = timeCommand(dir, "mkdir out && zstd -dcq a.zst | tar x -C out");
    return await withRepository(2, async (git) => await besideTools(dir, git, { zip, pack, unpack }));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function besideTools(
  dir: string,
  git: GitSpec,
  tools: Readonly<Record<"zip" | "pack" | "unpack", Timed>>,
): Promise<readonly Figure[]> {
  return await withScene({ dialect: "gitlab", switches: { bodyLimitBytes: 1e9 } }, async (scene) => {
    const copy = `cp -r '${join(dir, "tree")}' tree`;
    const cache = { key: "tree", paths: ["tree/"] };
    const plain = await timed(scene, { script: [copy], git });
    const artifact = await timed(scene, { script: [copy], git, artifacts: { paths: ["tree/"] } });
    const saved = await timed(scene, { script: [copy], git, cache });
    const restored = await timed(scene, { script: [], git, cache });
    const again = await timed(scene, { script: [], git, cache });
    const row = (name: string, ours: Timed, tool: Timed | null, target: number): Figure[] => [
      {
        name: tool === null ? name : `${name}, of the tool's ${tool.seconds.toFixed(2)} s`,
        value: tool === null ? ours.seconds : ours.seconds / tool.seconds,
        unit: tool === null ? "s" : "×",
        target,
        bound: "at most",
      },
      ...(tool === null
        ? []
        : [
            {
              name: `  its processor time (runner, whole job), of the tool's ${tool.cpu.toFixed(2)} s`,
              value: ours.cpu / tool.cpu,
              unit: "×",
              target,
              bound: "at most" as const,
            },
          ]),
    ];
    const beyond = (seconds: number, its: { cpu: number }): Timed => ({ seconds, cpu: its.cpu });
    return [
      ...row("artifact of a tree, `zip -6`", beyond(artifact.after - plain.after, artifact), tools.zip, 0.2),
      ...row("cache saved, `tar | zstd -1 -T2`", beyond(saved.after - plain.after, saved), tools.pack, 1.6),
      ...row("cache restored, `zstd -d | tar x`", beyond(restored.before - plain.before, restored), tools.unpack, 1.6),
      ...row("cache restored where nothing has changed", beyond(again.before - plain.before, again), null, 0.25),
      ...row("unchanged cache looked at", beyond(again.after - plain.after, again), null, 0.25),
      {
        name: "memory of the runner meanwhile, peak",
        value: residentMb(scene.runner.pid).peak,
        unit: "MB",
        target: 160,
        bound: "at most",
      },
    ];
  });
}
