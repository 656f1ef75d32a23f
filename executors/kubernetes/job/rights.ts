import { z } from "zod";
import { SystemFailure } from "../../../src/errors.ts";
import { all } from "../../../src/time.ts";
import type { Api } from "../api/client.ts";
import { ApiFailure } from "../api/status.ts";

/** What the runner's login may do in a namespace. */

interface Right {
  readonly verb: string;
  readonly resource: string;
  readonly subresource?: string;
}

/** No job can run without these rights; jobs do without the others that the documented role has. */
const NEEDED: readonly Right[] = [
  { verb: "create", resource: "pods" },
  { verb: "get", resource: "pods" },
  { verb: "delete", resource: "pods" },
  { verb: "create", resource: "pods", subresource: "exec" },
  { verb: "get", resource: "pods", subresource: "exec" },
];

const reviewSchema = z.object({ status: z.object({ allowed: z.boolean() }) });

async function isAllowed(api: Api, namespace: string, right: Right, signal: AbortSignal): Promise<boolean> {
  const call = {
    what: "ask for the runner's rights",
    method: "POST",
    path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    body: {
      apiVersion: "authorization.k8s.io/v1",
      kind: "SelfSubjectAccessReview",
      spec: { resourceAttributes: { namespace, ...right } },
    },
  } as const;
  try {
    return (await api.read(call, reviewSchema, signal)).status.allowed;
  } catch (error) {
    // If the login may not ask for its rights, it is assumed to have them.
    if (error instanceof ApiFailure && (error.status === 403 || error.status === 404)) return true;
    throw error;
  }
}

/** @throws {SystemFailure} rights are missing: it names each, and the rules of a role that give them */
export async function demandRights(api: Api, namespace: string, signal: AbortSignal): Promise<void> {
  const asked = await all(
    NEEDED.map(async (right) => ({ right, allowed: await isAllowed(api, namespace, right, signal) })),
  );
  const missing = new Map<string, string[]>();
  for (const { right, allowed } of asked) {
    if (allowed) continue;
    const { verb, resource, subresource } = right;
    const name = subresource === undefined ? resource : `${resource}/${subresource}`;
    missing.set(name, [...(missing.get(name) ?? []), verb]);
  }
  if (missing.size === 0) return;
  const named = [...missing].flatMap(([name, verbs]) => verbs.map((verb) => `${verb} ${name}`));
  const rules = [...missing].map(
    ([name, verbs]) => `{apiGroups: [""], resources: [${name}], verbs: [${verbs.join(", ")}]}`,
  );
  throw new SystemFailure(
    `The runner's login may not ${named.join(", ")} in the namespace "${namespace}" of ${api.access.server}: add to its role ${rules.join(" and ")}`,
    { reason: "runner_configuration_error" },
  );
}
