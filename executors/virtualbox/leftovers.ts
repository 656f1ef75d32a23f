import { rm, stat } from "node:fs/promises";
import { isAbsolute, join, relative } from "node:path";
import { QUICK_MS, type Tool } from "../virtual-machine/tool.ts";

/**
 * Removes what is left of a copy that was broken off: disks that VirtualBox still knows, and the folder. The folder's
 * last part is the machine's own name, which is partly random.
 */
export async function removeLeftovers(
  tool: Tool,
  { folder, name }: { readonly folder: string; readonly name: string },
  signal: AbortSignal,
): Promise<void> {
  const own = join(folder, name);
  if (!(await stat(own).catch(() => null))?.isDirectory()) return;
  const disks = await tool.run(
    { args: ["list", "hdds"], task: "list the disks that VirtualBox knows", limitMs: QUICK_MS },
    signal,
  );
  for (const id of disksBelow(disks, own)) {
    const task = `remove a disk that the virtual machine "${name}" has left`;
    await tool.ask({ args: ["closemedium", "disk", id], task, limitMs: QUICK_MS }, signal);
  }
  await rm(own, { recursive: true, force: true });
}

/** Disks whose files are in `folder`, the last one first: what depends on another was made after it. */
export function disksBelow(list: string, folder: string): string[] {
  return list
    .split(/\r?\n\r?\n/)
    .flatMap((block) => {
      const [, id] = /^UUID:\s+(\S+)$/m.exec(block) ?? [];
      const [, path] = /^Location:\s+(.+?)\s*$/m.exec(block) ?? [];
      if (id === undefined || path === undefined) return [];
      const inside = relative(folder, path);
      return inside !== "" && !inside.startsWith("..") && !isAbsolute(inside) ? [id] : [];
    })
    .reverse();
}
