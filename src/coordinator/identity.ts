import { goWords } from "../go-words.ts";

/** How the runner introduces itself: the same for every request of the process. */
export interface Identity {
  /** `alloy-runner`. */
  readonly name: string;
  readonly version: string;
  readonly revision: string;
  /** As Go spells it: `linux`, `darwin`, `windows`, `freebsd`. */
  readonly platform: string;
  /** As Go spells it: `amd64`, `arm64`, `386`, `arm`. */
  readonly architecture: string;
  /** `alloy-runner 2.0.0 (1a2b3c4d; node24.21.0; linux/amd64)`. */
  readonly userAgent: string;
}

export interface Build {
  readonly version: string;
  readonly revision: string;
  /** `node24.21.0` or `bun1.4.4`. */
  readonly runtime: string;
  /** `process.platform` and `process.arch`. */
  readonly platform: string;
  readonly arch: string;
}

export function createIdentity(build: Build): Identity {
  const name = "alloy-runner";
  const { platform, architecture } = goWords(build);
  return {
    name,
    version: build.version,
    revision: build.revision,
    platform,
    architecture,
    userAgent: `${name} ${build.version} (${build.revision}; ${build.runtime}; ${platform}/${architecture})`,
  };
}
