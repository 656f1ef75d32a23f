import { json } from "./http/parameters.ts";
import type { Reply } from "./http/reply.ts";
import type { JobRecord } from "./jobs/job-record.ts";

/** Refusals in the words of GitLab. */
export const forbidden = json(403, { message: "403 Forbidden" });
export const badRequest = (what: string): Reply => json(400, { message: `400 Bad request - ${what}` });
export const tooLarge = json(413, { message: "413 Request Entity Too Large" });

export function isReply(value: JobRecord | Reply): value is Reply {
  return !("patches" in value);
}
