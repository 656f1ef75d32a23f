import { spawn } from "node:child_process";
import { describeError } from "./errors.ts";
import type { Log } from "./log.ts";

/** What the service manager is told. Calls never throw and never wait; messages arrive in the order of the calls. */
export interface Notifier {
  ready(status: string): void;
  reloading(): void;
  stopping(status: string): void;
  /** One line for `systemctl status`. */
  status(text: string): void;
  /** Stops the watchdog's heartbeat and waits for what was sent, each message at most 5 s. */
  close(): Promise<void>;
}

export interface NotifierOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly pid: number;
  readonly log: Log;
}

const SEND_LIMIT_MS = 5000;

/**
 * systemd's notify protocol (`Type=notify`, `WatchdogSec=`), where `NOTIFY_SOCKET` is set; elsewhere all calls do nothing.
 * Neither Node nor Bun can open a Unix datagram socket, so `systemd-notify` sends each message, or `socat` where that is
 * missing. As root the message carries the runner's own process id; otherwise the unit needs `NotifyAccess=all`.
 */
export function openNotifier({ env, pid, log }: NotifierOptions): Notifier {
  const socket = env.NOTIFY_SOCKET;
  if (socket === undefined || socket === "") {
    const nothing = (): void => {};
    return { ready: nothing, reloading: nothing, stopping: nothing, status: nothing, close: async () => {} };
  }
  // Only what the senders need: the environment of the runner holds more than they should see.
  const senderEnv = { NOTIFY_SOCKET: socket, PATH: env.PATH ?? "/usr/bin:/bin" };
  let last: Promise<void> = Promise.resolve();
  let complained = false;

  const deliver = async (variables: readonly string[], flags: readonly string[]): Promise<void> => {
    try {
      const missing = await run("systemd-notify", [`--pid=${pid}`, ...flags, ...variables], "", senderEnv).then(
        () => false,
        (error) => {
          if (isMissing(error)) return true;
          throw error;
        },
      );
      if (!missing) return;
      const address = socket.startsWith("@") ? `ABSTRACT-SENDTO:${socket.slice(1)}` : `UNIX-SENDTO:${socket}`;
      await run("socat", ["-u", "STDIN", address], `${variables.join("\n")}\n`, senderEnv);
    } catch (error) {
      if (complained) return;
      complained = true;
      log.warn(
        "cannot tell the service manager about the runner's state: systemd-notify (or socat) is needed for Type=notify and WatchdogSec",
        { problem: describeError(error) },
      );
    }
  };
  const send = (variables: readonly string[], flags: readonly string[] = []): void => {
    last = last.then(() => deliver(variables, flags));
  };

  const everyMs = watchdogMs(env, pid);
  let beating = false;
  const heartbeat =
    everyMs === null
      ? undefined
      : setInterval(() => {
          // One at a time: a sender that hangs must not pile up others behind it.
          if (beating) return;
          beating = true;
          last = last
            .then(() => deliver(["WATCHDOG=1"], []))
            .finally(() => {
              beating = false;
            });
        }, everyMs);

  const line = (text: string): string => `STATUS=${text.replace(/\s+/g, " ")}`;
  return {
    ready: (status) => send(["READY=1", line(status)]),
    reloading: () => {
      // `--reloading` (systemd 253) adds the monotonic time that Type=notify-reload wants; older ones know the bare message.
      last = last.then(async () => {
        await run("systemd-notify", [`--pid=${pid}`, "--reloading"], "", senderEnv).catch(() =>
          deliver(["RELOADING=1"], []),
        );
      });
    },
    stopping: (status) => send(["STOPPING=1", line(status)]),
    status: (text) => send([line(text)]),
    close: async () => {
      clearInterval(heartbeat);
      await last;
    },
  };
}

/** Half of what systemd allows between two signs of life, or `null` where it wants none from this process. */
function watchdogMs(env: NodeJS.ProcessEnv, pid: number): number | null {
  const microseconds = Number(env.WATCHDOG_USEC ?? "");
  if (!Number.isFinite(microseconds) || microseconds <= 0) return null;
  if (env.WATCHDOG_PID !== undefined && env.WATCHDOG_PID !== String(pid)) return null;
  return Math.min(Math.max(microseconds / 2000, 100), 2 ** 31 - 1);
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

/** Runs a sender to its end; rejects when it cannot be started, fails, or takes longer than 5 s. */
function run(program: string, argv: readonly string[], input: string, env: NodeJS.ProcessEnv): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, argv, {
      stdio: ["pipe", "ignore", "ignore"],
      env,
      timeout: SEND_LIMIT_MS,
      killSignal: "SIGKILL",
    });
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error(`${program} ended with ${signal ?? `status ${code}`}`));
    });
    child.stdin.on("error", () => {});
    child.stdin.end(input);
  });
}
