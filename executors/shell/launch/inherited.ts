/** What a script needs of the machine it runs on. Everything else of the runner's own environment stays with the runner. */
const INHERITED: readonly string[] = [
  "PATH",
  "HOME",
  "USER",
  "LOGNAME",
  "SHELL",
  "LANG",
  "LC_*",
  "TZ",
  "TMPDIR",
  "TERM",
  "SSH_AUTH_SOCK",
  ...["http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"].flatMap((name) => [name, name.toUpperCase()]),
];

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** A name or a glob (`*`, `?`) as a pattern over whole names; with `i` in `flags`, whatever their case. */
export function namePattern(glob: string, flags = "s"): RegExp {
  const source = glob.replace(/[\\^$.*+?()[\]{}|]/g, (sign) =>
    sign === "*" ? ".*" : sign === "?" ? "." : `\\${sign}`,
  );
  return new RegExp(`^${source}$`, flags);
}

/** Whom scripts run as, if not as the runner. */
interface Person {
  readonly name: string;
  readonly home: string;
  readonly shell: string;
}

interface InheritOptions {
  /** Names and globs beyond the short list. */
  readonly more: readonly string[];
  /** Home of the runner's own account, where `HOME` is not set. */
  readonly home: string;
  readonly person: Person | null;
}

/** The environment that a script's shell starts with, made from the runner's own. */
export function inheritEnvironment(
  own: Readonly<Record<string, string | undefined>>,
  { more, home, person }: InheritOptions,
): Record<string, string> {
  const patterns = [...INHERITED, ...more].map((glob) => namePattern(glob));
  const environment: Record<string, string> = { PATH: DEFAULT_PATH, HOME: home };
  for (const [name, value] of Object.entries(own)) {
    if (value !== undefined && value !== "" && patterns.some((one) => one.test(name))) environment[name] = value;
  }
  if (person !== null) {
    Object.assign(environment, { HOME: person.home, USER: person.name, LOGNAME: person.name, SHELL: person.shell });
    // They lead to the runner's own agent and to a directory that may be closed to others.
    delete environment.SSH_AUTH_SOCK;
    delete environment.TMPDIR;
  }
  // At level 1 bash takes itself for a remote shell on some stdins and sources ~/.bashrc, and the logout file that some
  // systems hand out clears a console that is not there, which spoils the script's status.
  environment.SHLVL = "1";
  return environment;
}
