import { Counter, Gauge, Histogram, type Registry } from "./metrics-library.ts";

/** Makers of metrics in one registry. Label names are checked by the compiler. */
export interface Families {
  counter<L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L>;
  histogram<L extends string>(name: string, help: string, labelNames: readonly L[], buckets: number[]): Histogram<L>;
  /** `collect` sets all its values whenever somebody asks; what it does not set is absent. */
  gauge<L extends string>(
    name: string,
    help: string,
    labelNames: readonly L[],
    collect: (set: (labels: Record<L, string>, value: number) => void) => void | Promise<void>,
  ): Gauge<L>;
}

export function createFamilies(registry: Registry): Families {
  const registers = [registry];
  return {
    counter: (name, help, labelNames) => new Counter({ name, help, labelNames: [...labelNames], registers }),
    histogram: (name, help, labelNames, buckets) =>
      new Histogram({ name, help, labelNames: [...labelNames], buckets, registers }),
    gauge: (name, help, labelNames, collect) =>
      new Gauge({
        name,
        help,
        labelNames: [...labelNames],
        registers,
        async collect() {
          this.reset();
          // A gauge without labels would stay, as 0.
          if (labelNames.length === 0) this.remove();
          await collect((labels, value) => this.set(labels, value));
        },
      }),
  };
}
