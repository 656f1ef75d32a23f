/**
 * The public image of git and a shell for the runner's own work where `helper_image` is not set: `alpine/git` v2.52.0, the index of
 * all its architectures. It gets the credentials of clones, so a tag that somebody moves must not change it; a release of the runner
 * renews it.
 */
export const PUBLIC_HELPER =
  "docker.io/alpine/git@sha256:d453f54c83320412aa89c391b076930bd8569bc1012285e8c68ce2d4435826a3";
