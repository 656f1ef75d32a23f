import type { Families } from "./families.ts";
import type { NamedEntry } from "./meters.ts";

type EntryLabels = Readonly<Record<"runner" | "runner_name" | "system_id", string>>;

export interface BrokenEntries {
  /** A configuration was taken. */
  configured(config: { readonly sound: readonly NamedEntry[]; readonly broken: readonly NamedEntry[] }): void;
  /** By their labels, each once. */
  readonly labels: Iterable<EntryLabels>;
  has(id: string): boolean;
}

/** Entries that cannot be used as they stand in the file. How often they were met is kept as long as they are in the file. */
export function createBrokenEntries({ counter }: Families, systemId: string): BrokenEntries {
  const errors = counter(
    "alloy_runner_entry_configuration_errors_total",
    "Configurations that were taken without this entry, as it cannot be used.",
    ["runner", "runner_name", "system_id"],
  );
  const keyOf = ({ id, name }: NamedEntry): string => (id === "" ? `name ${name}` : id);
  const counted = new Map<string, EntryLabels>();
  let broken = new Map<string, EntryLabels>();
  return {
    configured(next) {
      broken = new Map(
        next.broken.map((entry) => [keyOf(entry), { runner: entry.id, runner_name: entry.name, system_id: systemId }]),
      );
      const present = new Set([...next.sound, ...next.broken].map(keyOf));
      for (const [key, labels] of counted) {
        if (present.has(key)) continue;
        errors.remove(labels);
        counted.delete(key);
      }
      for (const [key, labels] of broken) {
        const series = counted.get(key) ?? labels;
        counted.set(key, series);
        errors.inc(series);
      }
    },
    get labels() {
      return broken.values();
    },
    has: (id) => broken.has(id),
  };
}
