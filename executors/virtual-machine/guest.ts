import { SystemFailure } from "../../src/errors.ts";
import type { Notes } from "../../src/executor/prepare.ts";
import { type RemoteCommands, runToEnd } from "../remote/index.ts";
import type { Hypervisor, Machine } from "./hypervisor.ts";

const MOST_ANSWER_BYTES = 256 * 1024;

/**
 * Prints the addresses of all adapters, also of those whose address was changed, on Linux, macOS and the BSDs; then the
 * clock.
 */
const LOOK_PROGRAM = `{ cat /sys/class/net/*/address; ip link || /sbin/ip link; ifconfig -a || /sbin/ifconfig -a; } 2>/dev/null
echo "clock $(date -u +%s)"`;

/** `$1` is seconds since 1970, `$2` `$3` the same as systems have it that do not take those. */
const CLOCK_PROGRAM = `case $(uname) in
Linux) set -- -s "@$1" ;;
FreeBSD | DragonFly | OpenBSD | NetBSD) set -- "$3" ;;
*) set -- "$2" ;;
esac
for how in '' 'sudo -n'; do
  $how date -u "$@" >/dev/null 2>&1 && exit 0
done
exit 1`;

/** `$1` is a time server. */
const SERVER_PROGRAM = `for how in '' 'sudo -n'; do
  $how sntp -sS "$1" >/dev/null 2>&1 && exit 0
  $how ntpdate -u "$1" >/dev/null 2>&1 && exit 0
done
exit 1`;

/** A larger difference is corrected: a snapshot brings back the time at which it was taken. */
const MOST_SKEW_S = 5;

export interface Guest {
  readonly macs: readonly string[];
  /** How far its clock is from this machine's; `null`: it does not say. */
  readonly skewS: number | null;
}

export async function lookAtGuest(commands: RemoteCommands, signal: AbortSignal): Promise<Guest> {
  const beforeMs = Date.now();
  const { stdout } = await runToEnd(commands, { script: LOOK_PROGRAM, args: [] }, MOST_ANSWER_BYTES, signal);
  const nowS = (beforeMs + Date.now()) / 2000;
  const text = stdout.toString("latin1");
  const found = text.match(/\b(?:[0-9a-f]{1,2}[:-]){5}[0-9a-f]{1,2}\b/gi) ?? [];
  const clock = /^clock (\d+)$/m.exec(text)?.[1];
  return {
    macs: [...new Set(found.map(plainMac))].filter((mac) => !/^(?:0+|f+)$/.test(mac)),
    skewS: clock === undefined ? null : Math.round(Number(clock) - nowS),
  };
}

/** `8:0:27:a:b:c` → `0800270a0b0c` */
function plainMac(text: string): string {
  return text
    .toLowerCase()
    .split(/[:-]/)
    .map((part) => part.padStart(2, "0"))
    .join("");
}

/**
 * Copies have the host key of their base: only the address of its network adapter tells a machine from the next one, which may
 * have got its port or its lease meanwhile.
 * @throws {SystemFailure} it is another one
 */
export function mustBeIt(guest: Guest, own: readonly string[], machine: Machine): void {
  if (guest.macs.length === 0 || own.length === 0 || own.some((mac) => guest.macs.includes(mac))) return;
  throw new SystemFailure(
    `What answers where the virtual machine "${machine.name}" should has another network adapter (${guest.macs.slice(0, 4).join(", ")}) than that machine (${own.join(", ")}): it is another machine. If its system gives the adapter an address of its own, leave it as it is`,
    { retry: true },
  );
}

/** Sets the guest's clock where it is wrong: by a time server, where one is named, else by this machine's. It goes on if that fails. */
export async function setClock(
  { skewS }: Guest,
  { hypervisor, machine, commands, timeServer }: ClockOptions,
  notes: Notes,
  signal: AbortSignal,
): Promise<void> {
  if (skewS === null || Math.abs(skewS) < MOST_SKEW_S) return;
  if (timeServer !== undefined && (await succeeds(commands, SERVER_PROGRAM, [timeServer], signal))) return;
  // The seconds until the guest runs the command hardly count.
  const now = new Date();
  const seconds = String(Math.floor(now.getTime() / 1000));
  const [year = "", month = "", day = "", hour = "", minute = "", second = ""] = now.toISOString().split(/[-T:.Z]/);
  const posix = `${month}${day}${hour}${minute}${year}.${second}`;
  const bsd = `${year}${month}${day}${hour}${minute}.${second}`;
  if (await succeeds(commands, CLOCK_PROGRAM, [seconds, posix, bsd], signal)) return;
  const script = `case $(uname) in Linux) date -u -s @${seconds};; *) date -u ${posix};; esac`;
  if ((await hypervisor.asRoot?.(machine, script, signal)) === true) return;
  const off = `${Math.abs(skewS)} s ${skewS < 0 ? "behind" : "ahead"}`;
  notes.print(
    `The clock of the virtual machine is ${off}, and could not be set: let its account run date by sudo without a password, or have ${hypervisor.title}'s guest tools set it`,
    "warning",
  );
}

interface ClockOptions {
  readonly hypervisor: Hypervisor;
  readonly machine: Machine;
  readonly commands: RemoteCommands;
  readonly timeServer: string | undefined;
}

async function succeeds(
  commands: RemoteCommands,
  script: string,
  args: readonly string[],
  signal: AbortSignal,
): Promise<boolean> {
  return (await runToEnd(commands, { script, args }, MOST_ANSWER_BYTES, signal)).code === 0;
}
