import { randomBytes } from "node:crypto";
import { first } from "./retry-after.ts";

/**
 * Makes `X-Request-Id` values, 32 hex digits as GitLab Runner sends them: 16 stand for this maker, 16 count. Coordinators
 * write them to their logs and send them back, or one of their own.
 */
export function createRequestIds(): () => string {
  const maker = randomBytes(8).toString("hex");
  let count = 0;
  return () => `${maker}${(++count).toString(16).padStart(16, "0")}`;
}

/** Under which an answer is found in the coordinator's log; `undefined` where it says nothing that can be shown. */
export function requestIdOf(headers: Readonly<Record<string, string | string[] | undefined>>): string | undefined {
  const id = first(headers["x-request-id"]);
  return id !== undefined && /^[\w.:-]{8,64}$/.test(id) ? id : undefined;
}
