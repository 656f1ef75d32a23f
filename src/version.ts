/** What this program calls itself. Both names are set by `scripts/bundle.mjs`; run from the sources they are not there. */

declare const __ALLOY_RUNNER_VERSION__: string | undefined;
declare const __ALLOY_RUNNER_REVISION__: string | undefined;

export const version: string = typeof __ALLOY_RUNNER_VERSION__ === "string" ? __ALLOY_RUNNER_VERSION__ : "0.0.0-dev";
export const revision: string = typeof __ALLOY_RUNNER_REVISION__ === "string" ? __ALLOY_RUNNER_REVISION__ : "source";

/** `bun1.4.4` or `node24.21.0`. */
export const runtime: string =
  process.versions.bun === undefined ? `node${process.versions.node}` : `bun${process.versions.bun}`;

/** What `--version` prints. */
export const versionText = `alloy-runner ${version}\nrevision ${revision}\nruntime ${runtime}\nplatform ${process.platform}/${process.arch}`;
