import { readdir, readFile } from "node:fs/promises";
import { Counter, Gauge, type Registry } from "./metrics-library.ts";

/**
 * The standard process metrics, looked up when somebody asks and never in between: the collectors that come with
 * prom-client also start an event-loop histogram that wakes the process a hundred times a second.
 * Those that come from `/proc` are absent where there is none.
 */
export function addProcessMetrics(registry: Registry): void {
  const registers = [registry];
  new Counter({
    name: "process_cpu_seconds_total",
    help: "User and system CPU time spent in seconds.",
    registers,
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
  new Gauge({
    name: "process_resident_memory_bytes",
    help: "Resident memory size in bytes.",
    registers,
    collect() {
      this.set(process.memoryUsage.rss());
    },
  });
  const startedAt = Date.now() / 1000 - process.uptime();
  new Gauge({
    name: "process_start_time_seconds",
    help: "Start time of the process since the epoch in seconds.",
    registers,
    collect() {
      this.set(startedAt);
    },
  });
  fromProc(registry, "process_virtual_memory_bytes", "Virtual memory size in bytes.", async () => {
    const kibibytes = /^VmSize:\s+(\d+) kB/m.exec(await readFile("/proc/self/status", "latin1"))?.[1];
    return kibibytes === undefined ? undefined : Number(kibibytes) * 1024;
  });
  fromProc(registry, "process_open_fds", "Open file descriptors.", async () => {
    // Less one: the descriptor that the listing itself needs.
    return (await readdir("/proc/self/fd")).length - 1;
  });
  fromProc(registry, "process_max_fds", "Most file descriptors that may be open.", async () => {
    const limit = /^Max open files\s+(\S+)/m.exec(await readFile("/proc/self/limits", "latin1"))?.[1];
    return limit === undefined || limit === "unlimited" ? undefined : Number(limit);
  });
}

function fromProc(registry: Registry, name: string, help: string, look: () => Promise<number | undefined>): void {
  new Gauge({
    name,
    help,
    registers: [registry],
    async collect() {
      this.remove();
      const value = await look().catch(() => undefined);
      if (value !== undefined) this.set(value);
    },
  });
}
