import { randomBytes } from "node:crypto";

/** Names that machines of one entry have: `runner-<short token>-<MachineName>`, with a time and random digits for its `%s`. */
export interface MachineNames {
  create(now?: Date): string;
  /** Made by this entry, or by the Go runner for it. What stands after the `%s` was never compared. */
  owns(name: string): boolean;
}

export function machineNames(shortTokens: readonly string[], template: string): MachineNames {
  const [before = "", ...after] = template.split("%s");
  const prefixes = shortTokens.map((short) => `runner-${short}-${before}`);
  return {
    create: (now = new Date()) =>
      `${prefixes[0]}${Math.floor(now.getTime() / 1000)}-${randomBytes(4).toString("hex")}${after.join("%s")}`,
    owns: (name) =>
      prefixes.some((prefix) => name.startsWith(prefix) && /^\d+-[0-9a-f]+/.test(name.slice(prefix.length))),
  };
}
