/**
 * What GitLab's tokens begin with, besides `glpat-`, which is always looked for: applications, deploy tokens, runners, jobs,
 * triggers, feeds, incoming mail, agents, SCIM, feature flags, sessions, trace tokens.
 */
export const GITLAB_TOKEN_PREFIXES: readonly string[] = [
  "gloas-",
  "gldt-",
  "glrt-",
  "glcbt-",
  "glrtr-",
  "glptt-",
  "glft-",
  "glimt-",
  "glagent-",
  "glsoat-",
  "glffct-",
  "_gitlab_session=",
  "gltok-",
];
