import type { Config } from "../../config/config.ts";
import { createDiskGauge, type DiskGauge } from "../../journal/state/disk.ts";
import type { Log } from "../../log.ts";
import type { Caches } from "../../transfer/cache/open-caches.ts";

/** Caches are removed beyond what must be, so that the next line of a job does not make it necessary again. */
const SLACK_BYTES = 64 * 1024 * 1024;

export interface StateDiskOptions {
  /** The state directory. */
  readonly path: string;
  readonly config: () => Pick<Config, "minFreeDiskBytes" | "admission" | "runners">;
  readonly caches: Pick<Caches, "makeRoom">;
  readonly log: Log;
}

/** The disk of the state directory, where caches go before jobs have to wait. */
export function watchStateDisk({ path, config, caches, log }: StateDiskOptions): DiskGauge {
  const make = async (bytes: number): Promise<number> => await caches.makeRoom(config().runners, path, bytes);
  return createDiskGauge({
    path,
    minFreeBytes: () => config().minFreeDiskBytes,
    minFreeInodes: () => config().admission.minFreeInodes,
    makeRoom: async (least) => {
      const removed = (await make(least + SLACK_BYTES)) || (await make(least));
      if (removed > 0) log.warn("caches were removed, as the disk of state_dir was too full", { bytes: removed });
      return removed > 0;
    },
  });
}
