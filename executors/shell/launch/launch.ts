import { execFile } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { promisify } from "node:util";
import { SystemFailure } from "../../../src/errors.ts";
import type { Argv } from "../../../src/shell.ts";
import { type Account, findAccount } from "./account.ts";
import { inheritEnvironment } from "./inherited.ts";

/** How every program of a job is started. */
export interface Launch {
  /** Whom it runs as, if not as the runner. */
  readonly account: Account | null;
  /** Account that its processes belong to; `null`: it is root's own and may become anybody. */
  readonly uid: number | null;
  readonly environment: Readonly<Record<string, string>>;
  /**
   * Put before `argv` what changes the user; the program is an absolute path then.
   * @param more where else to look for it: the path that profiles set
   * @throws {SystemFailure} there is no such program
   */
  command(argv: Argv, more?: string): Argv;
  /**
   * Prove that the shell is there and that whoever runs jobs can start it.
   * @param argv starts it, and has it end at once
   * @throws {SystemFailure} naming the shell and why not
   */
  check(argv: Argv, more?: string): Promise<void>;
}

interface LaunchOptions {
  readonly user: string | undefined;
  readonly inherit: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Home of the runner's own account. */
  readonly home: string;
}

/** Where `name` is on `path` (`:` between directories); `undefined`: nowhere. */
export function findProgram(name: string, path: string): string | undefined {
  const places = name.includes("/") ? [name] : path.split(":").map((dir) => join(dir || ".", name));
  return places.find((place) => {
    try {
      accessSync(place, constants.X_OK);
      return isAbsolute(place) && statSync(place).isFile();
    } catch {
      return false;
    }
  });
}

/** Shells of accounts that nobody may work as. */
function isNoShell(shell: string): boolean {
  return /(^|\/)(nologin|false)$/.test(shell);
}

const PATIENCE_MS = 15_000;

/** What a program prints; rejects unless it ends with status 0. */
async function outputOf(argv: Argv, environment: Readonly<Record<string, string>>): Promise<string> {
  const [program, ...args] = argv;
  const { stdout } = await promisify(execFile)(program, args, {
    env: environment,
    cwd: "/",
    encoding: "utf8",
    // The files that the account's shell reads when it starts may take for ever.
    timeout: PATIENCE_MS,
    killSignal: "SIGKILL",
  });
  return stdout.trim();
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** The ways from root to another account: with its supplementary groups, never with more than it has. */
function switches(account: Account, path: string): ((argv: Argv) => Argv)[] {
  const setpriv = findProgram("setpriv", path);
  const su = findProgram("su", path);
  return [
    ...(setpriv === undefined
      ? []
      : [
          (argv: Argv): Argv => [
            setpriv,
            `--reuid=${account.uid}`,
            `--regid=${account.gid}`,
            "--init-groups",
            "--",
            ...argv,
          ],
        ]),
    ...(su === undefined
      ? []
      : [
          // Only Linux knows -s; elsewhere the account's own shell reads these words, which are quoted for any of them.
          (argv: Argv): Argv => [
            su,
            ...(process.platform === "linux" ? ["-s", "/bin/sh"] : []),
            account.name,
            "-c",
            `exec ${argv.map(quote).join(" ")}`,
          ],
        ]),
  ];
}

/**
 * Find out how to start programs as `user`, and prove that it works.
 * @throws {SystemFailure} no such account, one that may not work, or no way to become it
 */
export async function prepareLaunch({ user, inherit, environment, home }: LaunchOptions): Promise<Launch> {
  const ownUid = process.geteuid?.();
  const refuse = (problem: string, cause?: unknown): never => {
    throw new SystemFailure(`Cannot run jobs as user "${user}": ${problem}`, {
      reason: "runner_configuration_error",
      cause,
    });
  };
  const resolve = ([name, ...args]: Argv, path: string, more = ""): Argv => {
    const program = findProgram(name, path) ?? (more === "" ? undefined : findProgram(name, more));
    if (program === undefined) {
      throw new SystemFailure(
        `Cannot find the program "${name}" on this machine (PATH is ${more === "" ? path : more}): install it, or set another "shell"`,
      );
    }
    return [program, ...args];
  };

  const launchWith = (account: Account | null, inherited: Record<string, string>, as: (argv: Argv) => Argv): Launch => {
    const command = (argv: Argv, more?: string): Argv => as(resolve(argv, inherited.PATH ?? "", more));
    return {
      account,
      uid: account?.uid ?? (ownUid || null),
      environment: inherited,
      command,
      check: async (argv, more) => {
        await outputOf(command(argv, more), inherited).catch((cause: unknown) => {
          const whom = account === null ? "" : ` as user "${account.name}"`;
          throw new SystemFailure(`Cannot start the shell "${argv[0]}"${whom}`, { cause });
        });
      },
    };
  };

  const account = user === undefined || user === "" ? null : await findAccount(user);
  if (user !== undefined && user !== "" && account === null) refuse("this machine has no such account");
  if (account !== null && account.uid !== ownUid) {
    if (ownUid !== 0) refuse("the runner itself would have to be root for that");
    if (isNoShell(account.shell)) refuse(`its login shell is ${account.shell}; give it a shell with usermod -s`);
    const inherited = inheritEnvironment(environment, { more: inherit, home, person: account });
    const path = inherited.PATH ?? "";
    const failures: unknown[] = [];
    for (const as of switches(account, path)) {
      const uid = await outputOf(as(resolve(["id", "-u"], path)), inherited).catch((error: unknown) => {
        failures.push(error);
        return "";
      });
      if (uid === String(account.uid)) return launchWith(account, inherited, as);
    }
    refuse("neither setpriv nor su of this machine can start a program as it", failures[0]);
  }
  return launchWith(null, inheritEnvironment(environment, { more: inherit, home, person: null }), (argv) => argv);
}
