import { z } from "zod";
import type { Notes } from "../../../src/executor/prepare.ts";

/** Between two lines about a pull that goes on. */
const PAUSE_MS = 10_000;

export const progressSchema = z.object({
  id: z.string().optional(),
  status: z.string().optional(),
  error: z.string().optional(),
  errorDetail: z.object({ message: z.string().optional(), code: z.number().optional() }).nullish(),
  progressDetail: z.object({ current: z.number().optional(), total: z.number().optional() }).nullish(),
});
type ProgressLine = z.infer<typeof progressSchema>;

interface Layer {
  current: number;
  total: number;
  done: boolean;
}

interface PullProgress {
  add(line: ProgressLine): void;
  /** Whether any layer was not there before. */
  readonly isNew: boolean;
  /** `7 layers, 45.2 MB`; empty where nothing was loaded. */
  summary(): string;
}

/** Layers that are kept account of; a daemon could name any number. */
const MOST_LAYERS = 1000;

/** A pull's progress as few lines: one each ten seconds that the pull goes on. */
export function createPullProgress(name: string, notes: Notes, pauseMs = PAUSE_MS): PullProgress {
  const layers = new Map<string, Layer>();
  let spoke = performance.now();
  let isNew = false;

  const counts = (): { done: number; loaded: number; total: number } => {
    let [done, loaded, total] = [0, 0, 0];
    for (const layer of layers.values()) {
      if (layer.done) done++;
      loaded += layer.done ? Math.max(layer.current, layer.total) : layer.current;
      total += Math.max(layer.current, layer.total);
    }
    return { done, loaded, total };
  };

  return {
    add({ id, status, progressDetail }) {
      if (id === undefined || status === undefined) return;
      const known = layers.get(id);
      const starts =
        /^(?:Pulling fs layer|Waiting|Downloading|Verifying|Download complete|Already exists|Pull complete)/;
      if (known === undefined && (!starts.test(status) || layers.size >= MOST_LAYERS)) return;
      const layer = known ?? { current: 0, total: 0, done: false };
      layers.set(id, layer);
      if (/^(?:Downloading|Download complete|Pull complete)/.test(status)) isNew = true;
      if (status === "Downloading") {
        layer.current = count(progressDetail?.current);
        layer.total = count(progressDetail?.total);
      } else if (/^(?:Pull complete|Already exists)/.test(status)) layer.done = true;
      else if (/^(?:Download complete|Extracting)/.test(status)) layer.current = layer.total;
      if (performance.now() - spoke < pauseMs) return;
      spoke = performance.now();
      const { done, loaded, total } = counts();
      notes.print(`Pulling ${name}: ${done} of ${layers.size} layers, ${megabytes(loaded)} of ${megabytes(total)} MB`);
    },
    get isNew() {
      return isNew;
    },
    summary() {
      const { total } = counts();
      if (layers.size === 0) return "";
      const size = total === 0 ? "" : `, ${megabytes(total)} MB`;
      return `${layers.size} ${layers.size === 1 ? "layer" : "layers"}${size}`;
    },
  };
}

const count = (value: number | undefined): number =>
  value !== undefined && Number.isFinite(value) && value > 0 ? value : 0;

function megabytes(bytes: number): string {
  return (bytes / 1_000_000).toFixed(bytes < 100_000_000 ? 1 : 0);
}
