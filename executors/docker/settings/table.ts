import { z } from "zod";
import { type DockerSettings, dockerTable } from "./settings.ts";

const checked = new WeakSet<object>();

/** `[runners.docker]` for `defineExecutor`: what it makes, `settingsOf` knows again. */
export const checkedTable = dockerTable.transform((settings) => {
  checked.add(settings);
  return settings;
});

const door = z.custom<DockerSettings>((value) => typeof value === "object" && value !== null && checked.has(value));

/** The settings of a table that was checked, or of one as TOML has it; without one, as after a crash, the defaults. */
export function settingsOf(table: unknown): DockerSettings {
  const known = door.safeParse(table);
  return known.success ? known.data : dockerTable.parse(table ?? {});
}
