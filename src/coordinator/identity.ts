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

// Coordinators show and filter by the names that Go runners have always sent.
const platforms: ReadonlyMap<string, string> = new Map([
  ["win32", "windows"],
  ["sunos", "solaris"],
]);
const architectures: ReadonlyMap<string, string> = new Map([
  ["x64", "amd64"],
  ["ia32", "386"],
  ["ppc64", "ppc64le"],
  ["mipsel", "mipsle"],
]);

export function createIdentity(build: Build): Identity {
  const name = "alloy-runner";
  const platform = platforms.get(build.platform) ?? build.platform;
  const architecture = architectures.get(build.arch) ?? build.arch;
  return {
    name,
    version: build.version,
    revision: build.revision,
    platform,
    architecture,
    userAgent: `${name} ${build.version} (${build.revision}; ${build.runtime}; ${platform}/${architecture})`,
  };
}
