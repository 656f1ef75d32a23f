import { z } from "zod";
import { SystemFailure } from "../../errors.ts";
import type { EntryValue } from "../../executor/words.ts";
import type { RunnerConfig } from "../config.ts";
import { appendEntry } from "../file/edit.ts";
import { findFile, type LoadOptions, parseConfig } from "../load.ts";
import { TOKEN_KEYS } from "./token-life.ts";

const value: z.ZodType<EntryValue> = z.lazy(() =>
  z.union([z.string(), z.number(), z.boolean(), z.array(value), z.record(z.string(), value)]),
);
const table = z.record(z.string(), value);

export interface WrittenOptions {
  readonly options: LoadOptions;
  /** As it was in force. */
  readonly token: string;
  readonly user: string | undefined;
  readonly certsDir: string;
}

/**
 * An entry as it was when a job of it began, by what stood for it in the file (`RunnerConfig.written`).
 * @throws {SystemFailure | ConfigError} it cannot be read (any more)
 */
export async function entryWritten(
  written: string,
  { options, token, user, certsDir }: WrittenOptions,
): Promise<RunnerConfig> {
  const all = table.parse(JSON.parse(written));
  // How long its token lives is of no concern any more, but what it is known as stays.
  const lasts = (key: string): boolean => key === "known_as" || !TOKEN_KEYS.has(key);
  const lasting = Object.fromEntries(Object.entries(all).filter(([key]) => lasts(key.toLowerCase())));
  const config = await parseConfig(appendEntry("", { ...lasting, token, durable: true }), {
    ...options,
    certsDir,
    userOverride: user,
    file: "what was kept of a job",
    findFile: (path) => findFile(path, [options.workingDirectory]),
  });
  const [entry] = config.runners;
  if (entry === undefined) throw new SystemFailure("its entry cannot be used any more");
  return entry;
}
