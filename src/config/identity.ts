import { createHash } from "node:crypto";

/** What stands for a runner's token in public places: 8 hex digits of its SHA-256. */
export function runnerId(token: string): string {
  return digest(token).slice(0, 8);
}

/** What a runner is called: its id where the entry has no name. */
export function runnerName(name: string, token: string): string {
  return name === "" ? runnerId(token) : name;
}

/** SHA-256, hex. */
export function digest(text: string | Buffer): string {
  return createHash("sha256").update(text).digest("hex");
}
