import { z } from "zod";
import { type KubernetesSettings, kubernetesTable } from "./settings.ts";

const checked = new WeakSet<object>();

/** `[runners.kubernetes]` for `defineExecutor`; `settingsOf` recognizes the tables that it has checked. */
export const checkedTable = kubernetesTable.transform((settings) => {
  checked.add(settings);
  return settings;
});

const door = z.custom<KubernetesSettings>((value) => typeof value === "object" && value !== null && checked.has(value));

/** The settings of a table that was checked, or of one as TOML has it; without one, as after a crash, the defaults. */
export function settingsOf(table: unknown): KubernetesSettings {
  const known = door.safeParse(table);
  return known.success ? known.data : kubernetesTable.parse(table ?? {});
}
