import { randomBytes } from "node:crypto";

/** Names that machines of one entry have: `runner-<short token>-<MachineName>`, with a time and random digits for its `%s`. */
export interface MachineNames {
  create(now?: Date): string;
  /** Made by this entry, or by the Go runner for it. What stands after the `%s` was never compared. */
  owns(name: string): boolean;
}

export function machineNames(token: string, template: string): MachineNames {
  const [before = "", ...after] = template.split("%s");
  const [current = "", ...others] = shortTokens(token);
  const prefixes = [current, ...others].map((short) => `runner-${short}-${before}`);
  return {
    create: (now = new Date()) =>
      `${prefixes[0]}${Math.floor(now.getTime() / 1000)}-${randomBytes(4).toString("hex")}${after.join("%s")}`,
    owns: (name) =>
      prefixes.some((prefix) => name.startsWith(prefix) && /^\d+-[0-9a-f]+/.test(name.slice(prefix.length))),
  };
}

/** What a token begins with, without what says which kind it is; first that which new machines get. */
function shortTokens(token: string): string[] {
  const bare = token.replace(/^glrt-(?:t[123]_)?|^t[123]_|^glrtr-|^GR[0-9A-Fa-f]{7}/, "");
  // The Go runner took eight characters of a token without a kind, newer ones of GitLab's take nine.
  const lengths = bare === token ? [8, 9] : [9, 8];
  return lengths.map((length) =>
    bare
      .slice(0, length)
      .toLowerCase()
      .replaceAll(/[^a-z0-9.-]/g, "-"),
  );
}
