import { type Coordinator, troubleOf } from "../../coordinator/contract.ts";
import type { JobCredentials } from "../../job/job.ts";

/**
 * The one question about a job at GitLab that changes nothing: `running` would take one that nobody has acknowledged, and
 * that has ended here, once and for all. GitLab says 200 to `pending` for such a job only (`waits`), and 400 to its result.
 * `null`: no answer, or one that says nothing.
 */
export async function askAsWaiting(
  coordinator: Coordinator,
  credentials: JobCredentials,
  signal: AbortSignal,
): Promise<"waits" | "known" | null> {
  try {
    const answer = await coordinator.updateJob(credentials, { state: "pending" }, signal);
    return answer.kind === "done" && answer.status === "running" ? "waits" : "known";
  } catch (error) {
    return troubleOf(error)?.kind === "invalid" ? "known" : null;
  }
}

/** Does the coordinator answer calls of this job that carry no trace? `sent`: how much of it was sent already. */
export async function answersOtherwise(
  coordinator: Coordinator,
  credentials: JobCredentials,
  sent: number,
  signal: AbortSignal,
): Promise<boolean> {
  if (credentials.dialect === "gitlab") return (await askAsWaiting(coordinator, credentials, signal)) !== null;
  try {
    await coordinator.appendTrace(credentials, { from: sent, bytes: new Uint8Array() }, signal);
    return true;
  } catch {
    return false;
  }
}
