import type { ExecutorMeter, Measured, MeterLabels } from "../executor/deps.ts";
import type { Families } from "./families.ts";

/** The labels that say which entry it is. */
export type EntryLabels = Readonly<Record<"runner" | "runner_name" | "system_id", string>>;
const ENTRY_LABELS = ["runner", "runner_name", "system_id"] as const;

/** Notes a series that is about to be used, with how to remove it. */
type Keep = (key: string, remove: () => void) => void;

interface Reader {
  readonly entry: EntryLabels;
  readonly read: () => readonly Measured[];
}

/** A gauge's readers, and what it is about. */
interface Read {
  readonly help: string;
  readonly readers: Set<Reader>;
}

/** What an executor has of something at the moment: machines that idle, that are used. */
export interface Figure {
  /** `Machines by what they do.` */
  readonly about: string;
  readonly name: string;
  readonly value: number;
}

/** What executors have to tell: `alloy_runner_` before their own names. Executors of two entries share a metric. */
export function createExecutorMeters({ counter, gauge, histogram }: Families): {
  open(entry: EntryLabels, keep: Keep): ExecutorMeter & Disposable;
  /** Of the entry with this id. */
  figures(runner: string): readonly Figure[];
} {
  const gauges = new Map<string, Read>();
  const counters = new Map<string, ReturnType<typeof counter<string>>>();
  const histograms = new Map<string, ReturnType<typeof histogram<string>>>();
  const published = (name: string): string => (name.startsWith("ci_") ? name : `alloy_runner_${name}`);

  const readersOf = (name: string, help: string, labelNames: readonly string[]) => {
    const known = gauges.get(name);
    if (known !== undefined) return known.readers;
    const fresh = new Set<Reader>();
    gauges.set(name, { help, readers: fresh });
    gauge<string>(published(name), help, [...ENTRY_LABELS, ...labelNames], (set) => {
      for (const { entry, read } of fresh) {
        for (const { labels = {}, value } of read()) set({ ...entry, ...labels }, value);
      }
    });
    return fresh;
  };
  const counterOf = (name: string, help: string, labelNames: readonly string[]) => {
    const known = counters.get(name) ?? counter<string>(published(name), help, [...ENTRY_LABELS, ...labelNames]);
    counters.set(name, known);
    return known;
  };

  return {
    figures: (runner) =>
      [...gauges.values()].flatMap(({ help, readers }) =>
        [...readers]
          .filter(({ entry }) => entry.runner === runner)
          .flatMap(({ read }) =>
            read().map(({ labels = {}, value }) => ({ about: help, name: Object.values(labels).join(" "), value })),
          ),
      ),
    open(entry, keep) {
      const mine: (() => void)[] = [];
      return {
        gauge(name, help, labelNames, read) {
          const readers = readersOf(name, help, labelNames);
          const reader = { entry, read };
          readers.add(reader);
          mine.push(() => void readers.delete(reader));
        },
        counter(name, help, labelNames) {
          const counted = counterOf(name, help, labelNames);
          return (labels: MeterLabels = {}) => {
            const its = { ...entry, ...labels };
            keep(`${name} ${JSON.stringify(labels)}`, () => counted.remove(its));
            counted.inc(its);
          };
        },
        histogram(name, help, buckets) {
          const family = histograms.get(name) ?? histogram<string>(published(name), help, ENTRY_LABELS, [...buckets]);
          histograms.set(name, family);
          return (seconds) => {
            keep(name, () => family.remove(entry));
            family.observe(entry, seconds);
          };
        },
        [Symbol.dispose]() {
          for (const stop of mine) stop();
        },
      };
    },
  };
}
