import type { PullPolicy as ImagePolicyName } from "../../images/policy.ts";
import { ApiFailure } from "../api/status.ts";
import type { PullPolicy } from "../pod/pod.ts";
import { ImageFailure, MOST_SAID, NoShell, violatesSecurity } from "./failures.ts";

const NAMES: Readonly<Record<ImagePolicyName, PullPolicy>> = {
  always: "Always",
  "if-not-present": "IfNotPresent",
  never: "Never",
};
const OTHER_SHELL = "/busybox/sh";

export interface LessonsOptions {
  /** Container → the policies that its image may be pulled with, in the order in which they are tried. */
  readonly policies: ReadonlyMap<string, readonly ImagePolicyName[]>;
  readonly helper: {
    /** Nobody has configured the helper image: if it cannot be pulled, the job's own image may do. */
    readonly optional: boolean;
    /** Why the helper image is not even tried; `null` if it is. */
    readonly missing: string | null;
  };
}

/** What earlier tries to start a pod have shown. */
export interface Lessons {
  readonly shells: Readonly<Record<"build" | "helper", string>>;
  /** Why the build container does the helper's work, too; `null` if there is a helper. */
  readonly alone: string | null;
  /** The namespace admits only pods that Pod Security calls `restricted`. */
  readonly restricted: boolean;
  policyOf(container: string): PullPolicy;
  /** Whether the container's image may be pulled in another way than now. */
  hasOtherPolicy(container: string): boolean;
  /** What the next try does differently, in words; `null` if another try makes no sense. */
  learn(error: unknown): string | null;
}

export function createLessons({ policies, helper }: LessonsOptions): Lessons {
  const shells = { build: "sh", helper: "sh" };
  /** Container → which of its policies is tried. */
  const tried = new Map<string, number>();
  let alone = helper.missing;
  let restricted = false;

  const policyAt = (container: string, later: 0 | 1): ImagePolicyName | undefined =>
    policies.get(container)?.[(tried.get(container) ?? 0) + later];

  const otherImage = (error: ImageFailure): string | null => {
    const { container } = error;
    const said = error.message.slice(0, MOST_SAID);
    const other = policyAt(container, 1);
    if (other !== undefined) {
      tried.set(container, (tried.get(container) ?? 0) + 1);
      return `${said}. Trying with pull policy ${other}`;
    }
    if (container !== "helper" || !helper.optional || alone !== null) return null;
    alone = error.message;
    return `${said}. The job's own image has to do for git: helper_image may name one that the cluster can pull`;
  };

  return {
    shells,
    get alone() {
      return alone;
    },
    get restricted() {
      return restricted;
    },
    policyOf: (container) => {
      const policy = policyAt(container, 0);
      return policy === undefined ? undefined : NAMES[policy];
    },
    hasOtherPolicy: (container) => policyAt(container, 1) !== undefined,
    learn: (error) => {
      if (error instanceof ApiFailure && violatesSecurity(error) && !restricted) {
        restricted = true;
        return "The namespace admits only restricted pods: the job runs without root, as user 1000 where nothing else is configured";
      }
      if (error instanceof NoShell && (error.container === "build" || error.container === "helper")) {
        if (shells[error.container] === OTHER_SHELL) return null;
        shells[error.container] = OTHER_SHELL;
        return `The image of the ${error.container} container has no sh on its PATH: trying ${OTHER_SHELL}`;
      }
      return error instanceof ImageFailure ? otherImage(error) : null;
    },
  };
}
