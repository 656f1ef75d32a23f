/**
 * Which of a job's variables reach the runner's own work in a job: getting the sources, and what operators and authors
 * have run beside it. A variable of a job must not choose programs, places, libraries, certificates or git settings there.
 */

/** Describe the job and mean nothing to git, ssh, curl, a shell or a loader. */
const DESCRIPTIVE = /^(?:CI|GITLAB|ALLOY|RUNNER)(?:_|$)/;

/** The way to the outside is the network's business, so jobs and our own work take the same. */
const PROXY = /^(?:https?|ftp|all|no)_proxy$/i;

/** Switches that make git tell more. With a path as value they would write files, so only numbers and words pass. */
const GIT_TRACING = /^GIT_(?:TRACE(?:_[A-Z]+)?|CURL_VERBOSE)$/;
const SWITCH = /^(?:0|1|2|true|false)$/i;

const REDIRECTING_NAMES: ReadonlySet<string> = new Set([
  ..."PATH HOME USER LOGNAME SHELL IFS ENV BASH_ENV CDPATH GLOBIGNORE PROMPT_COMMAND SHELLOPTS BASHOPTS".split(" "),
  ..."POSIXLY_CORRECT EXECIGNORE FIGNORE FPATH ZDOTDIR TMPDIR TMP TEMP PWD OLDPWD TERM TERMINFO".split(" "),
  ..."HOSTALIASES RES_OPTIONS LOCALDOMAIN NETRC SSLKEYLOGFILE NLSPATH LOCPATH LANG LANGUAGE TZ TZDIR".split(" "),
  ..."EDITOR VISUAL PAGER LESSOPEN LESSCLOSE DISPLAY BROWSER GNUPGHOME EMAIL PREFIX GREP_OPTIONS TAR_OPTIONS GZIP XZ_OPT".split(
    " ",
  ),
]);
const REDIRECTING_PREFIX =
  /^(?:LD_|DYLD_|BASH_FUNC_|BASH_XTRACEFD|PS[0-4]$|GIT_|GCM_|SSH_|CURL_|SSL_|OPENSSL_|XDG_|LC_|PERL|PYTHON|RUBY|NODE_|BUN_|GCONV_|MALLOC_|GLIBC_|KRB5|GSS|GPG_|MSYS|CYGWIN)/;

/** For the runner's own commands: only what is known to be harmless. */
export function isHarmless(key: string, value: string): boolean {
  return DESCRIPTIVE.test(key) || PROXY.test(key) || (GIT_TRACING.test(key) && SWITCH.test(value));
}

/** For scripts of the operator or the author that run in one shell with them: all but what would redirect them. */
export function isRedirecting(key: string, value: string): boolean {
  if (isHarmless(key, value)) return false;
  return REDIRECTING_NAMES.has(key) || REDIRECTING_PREFIX.test(key);
}
