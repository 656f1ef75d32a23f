import type { Op } from "../../shell.ts";
import type { PolicyOptions } from "../job.ts";
import { listNames } from "../variables/resolve.ts";

/**
 * Whose job it is that a security policy has put into somebody's pipeline, and whose variables count in it. The coordinator has
 * applied that before it sent the job.
 */
export function policyLines(policy: PolicyOptions | undefined): Op[] {
  if (policy === undefined) return [];
  return [`This job is of the policy ${JSON.stringify(policy.name)}`, overridesOf(policy)].map((text) => ({
    op: "print",
    text,
    tone: "notice",
  }));
}

function overridesOf({ overrideAllowed, exceptions }: PolicyOptions): string {
  const but = exceptions.length === 0 ? "" : ` (but for ${listNames(exceptions)})`;
  if (overrideAllowed === null) return "The policy's variables win over those of users";
  return overrideAllowed
    ? `Variables of users win over the policy's${but}`
    : `Variables of users do not count in it${but}`;
}
