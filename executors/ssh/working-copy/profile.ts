import type { ShellName } from "../../../src/shell.ts";
import { deadline } from "../../../src/time.ts";
import { endTree, quoted, type RemoteCommands, runToEnd } from "../../remote/index.ts";

/**
 * `$1` file, `$2` shell, if the operator has chosen one, `$3` mark of the job's processes, `$4` what the login shell becomes.
 * Its own stdout is the profiles'.
 */
const LEARN = `
shell=$2
[ -n "$shell" ] || { shell=sh; command -v bash >/dev/null 2>&1 && shell=bash; }
case $shell in bash) login=--login;; *) login=-l;; esac
export "$3"
"$shell" "$login" -c 'exec sh -c "$1" alloy-runner "$2"' alloy-runner "$4" "$1" </dev/null >/dev/null 2>&1
`;

/** Writes what a login shell's profiles set that the runner's own scripts need, too, as lines that sh reads back. */
const SAVE = `umask 077
for name in PATH http_proxy HTTP_PROXY https_proxy HTTPS_PROXY ftp_proxy FTP_PROXY all_proxy ALL_PROXY no_proxy NO_PROXY; do
  eval "value=\\\${$name-}"
  [ -n "$value" ] || continue
  shown=
  while :; do
    case $value in
      *\\'*) shown="$shown\${value%%\\'*}'\\\\''" value=\${value#*\\'} ;;
      *) break ;;
    esac
  done
  printf "export %s='%s'\\n" "$name" "$shown$value"
done >"$1"
`;

/** How long profiles are waited for; of slower ones the script of a job tells that reads them. */
const PATIENCE_MS = 15_000;
/** From SIGKILL until what a profile has become is left to the end of the job. */
const STUCK_MS = 1000;
const MOST_ANSWER_BYTES = 64 * 1024;

interface LearnOptions {
  /** The job's own directory, where the values are kept: proxies can hold passwords, so they are in no argument list. */
  readonly tmpDir: string;
  /** The operator's choice; otherwise bash where it is there, and sh. */
  readonly shell: ShellName | undefined;
  /** `jobMark(jobKey)` */
  readonly mark: string;
}

/**
 * Reads the account's profiles once for a job, so that scripts that start without them find programs and proxies as authors'
 * scripts do: git in /opt, say.
 * @returns the same commands, in that environment; where the profiles fail or take too long, in that of sshd
 */
export async function withProfile(
  commands: RemoteCommands,
  { tmpDir, shell, mark }: LearnOptions,
  signal: AbortSignal,
): Promise<RemoteCommands> {
  const file = Buffer.from(`${tmpDir}/.profile`).toString("latin1");
  using limit = deadline(signal, PATIENCE_MS, new Error("the profiles take too long"));
  try {
    await runToEnd(commands, { script: LEARN, args: [file, shell ?? "", mark, SAVE] }, MOST_ANSWER_BYTES, limit.signal);
  } catch (error) {
    signal.throwIfAborted();
    if (!limit.signal.aborted) throw error;
    await endTree(commands, { mark, root: null, graceMs: 0, limitMs: STUCK_MS }, signal);
  }
  const word = quoted([file]);
  const before = `[ ! -r ${word} ] || . ${word}\n`;
  return {
    start: (command, until) => commands.start({ ...command, script: before + command.script }, until),
  };
}
