import { createHash } from "node:crypto";

/** What stands for a runner's token in public places: 8 hex digits of its SHA-256. */
export function runnerId(token: string): string {
  return digest(token).slice(0, 8);
}

/** SHA-256, hex. */
export function digest(text: string | Buffer): string {
  return createHash("sha256").update(text).digest("hex");
}
