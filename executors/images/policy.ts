/** When an image is pulled; the words of all runners of the family. */
export const PULL_POLICIES = ["always", "if-not-present", "never"] as const;
export type PullPolicy = (typeof PULL_POLICIES)[number];

/** A service that each job of the entry gets. */
export interface ServiceSetting {
  readonly name: string;
  readonly aliases: readonly string[];
  readonly entrypoint: readonly string[] | null;
  readonly command: readonly string[] | null;
  readonly variables: readonly { readonly key: string; readonly value: string }[];
}

/** What an entry says of the images and services of its jobs, whatever runs them. */
export interface ImagePolicy {
  /** The table that says so, for sentences: `runners.docker`. */
  readonly table: string;
  /** For jobs that name none. */
  readonly image?: string | undefined;
  /** Patterns; an empty list allows all. */
  readonly allowedImages: readonly string[];
  readonly allowedServices: readonly string[];
  readonly services: readonly ServiceSetting[];
  /** `null`: any number. */
  readonly servicesLimit: number | null;
  readonly disableEntrypointOverwrite: boolean;
  /** Tried in turn. */
  readonly pullPolicies: readonly PullPolicy[];
  /** What a job may choose; an empty list: what is in `pullPolicies`. */
  readonly allowedPullPolicies: readonly PullPolicy[];
  /** The operator's word on who jobs run as; it wins over the job's. */
  readonly user?: string | undefined;
  readonly allowedUsers: readonly string[];
  readonly privileged: boolean;
  /** Patterns; an empty list: all. */
  readonly privilegedImages: readonly string[];
  /** `undefined`: as `privileged`. */
  readonly servicesPrivileged?: boolean | undefined;
  readonly privilegedServices: readonly string[];
}
