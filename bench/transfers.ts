import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Figure, residentMb, withScene } from "./scene.ts";

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
