import type { RemoteCommands } from "../remote/index.ts";
import { runForText } from "./commands.ts";

/** Processes that the kernel killed for want of memory, counted since the container began (cgroup v2, or v1). */
const COUNT = `for file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
[ -r "$file" ] || continue
while read -r name value; do [ "$name" != oom_kill ] || { echo "$value"; exit 0; }; done <"$file"
done
echo 0`;

/** How many processes of the container had to go so far; `null`: unknown. */
export async function countKilled(commands: RemoteCommands, signal: AbortSignal): Promise<number | null> {
  try {
    const { code, stdout } = await runForText(commands, { script: COUNT, args: [] }, signal);
    const text = stdout.trim();
    return code === 0 && /^\d{1,9}$/.test(text) ? Number(text) : null;
  } catch {
    signal.throwIfAborted();
    return null;
  }
}

export function formatBytes(bytes: number): string {
  const mebibytes = bytes / 2 ** 20;
  return mebibytes >= 1024 && mebibytes % 1024 === 0 ? `${mebibytes / 1024} GiB` : `${Math.round(mebibytes)} MiB`;
}
