import { z } from "zod";
import type { ExecutorDeps } from "../../src/executor/deps.ts";
import { defineExecutor, type Executor } from "../../src/executor/executor.ts";
import type { ShellName } from "../../src/shell.ts";
import { handingOver } from "../common/hand-over.ts";
import { recoverJob, sweep } from "./clean-up/recovery.ts";
import { prepareJob } from "./prepare.ts";
import { type CustomSettings, customSettings, customTable, programsOf } from "./settings.ts";
import { words } from "./words.ts";

/** cmd is missing: its scripts need variables and files beside them, but a driver is handed a single text. */
const SHELLS = ["bash", "sh", "pwsh", "powershell"] as const satisfies readonly ShellName[];

const noteSchema = z.object({ kind: z.literal("custom-job"), file: z.string() });

function createCustomExecutor(settings: CustomSettings | null, deps: ExecutorDeps): Executor {
  const { log, host: places, entry } = deps;
  const shell = entry.shell ?? "bash";
  const closing = new AbortController();
  let sweeping: Promise<void> | null = null;

  return handingOver({
    name: words.name,
    title: words.title,
    features: { variables: true, image: false, services: false, shared: true },
    shell,
    plainShell: shell,
    wantsPayload: true,
    prepare: async (request, notes, signal) => {
      if (settings === null) throw new Error("an executor without its table prepares nothing");
      sweeping ??= sweep({ places, log }, closing.signal).catch(() => {});
      return await prepareJob({ settings, deps, shells: SHELLS }, request, notes, signal);
    },
    recover: async (_jobKey, notes, signal) => {
      const done: string[] = [];
      const left: string[] = [];
      const files = new Set<string>();
      for (const note of notes) {
        const known = noteSchema.safeParse(note);
        if (known.success) files.add(known.data.file);
        else if (note.kind !== "crash")
          log.warn("A note of a dead job is not one of the custom executor", { note: String(note.kind ?? "unknown") });
      }
      for (const file of files) {
        const recovered = await recoverJob(file, { places, log }, signal);
        done.push(...recovered.done);
        left.push(...recovered.left);
      }
      return { done, left };
    },
    close: async () => {
      closing.abort();
      await sweeping;
    },
  });
}

export default defineExecutor({
  ...words,
  tables: [{ name: "custom", required: true, schema: customTable }],
  shells: SHELLS,
  programs: ({ custom }) =>
    programsOf(customTable.parse(custom)).map(({ key, program }) => ({ table: "custom", key, program })),
  // The table is missing when the entry of a dead job is gone: the files that were kept have everything that its
  // clean-up needs.
  create: ({ custom }, deps) =>
    createCustomExecutor(custom === undefined ? null : customSettings(customTable.parse(custom)), deps),
});
