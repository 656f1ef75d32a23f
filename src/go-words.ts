// Coordinators and dashboards show and filter by the names that Go runners have always sent.
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

interface Words {
  /** `linux`, `darwin`, `windows`, `freebsd`. */
  readonly platform: string;
  /** `amd64`, `arm64`, `386`, `arm`. */
  readonly architecture: string;
}

/** `process.platform` and `process.arch` as Go spells them. */
export function goWords(here: { readonly platform: string; readonly arch: string }): Words {
  const { platform, arch } = here;
  return { platform: platforms.get(platform) ?? platform, architecture: architectures.get(arch) ?? arch };
}
