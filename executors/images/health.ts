import { SystemFailure } from "../../src/errors.ts";
import type { RemoteCommand } from "../remote/index.ts";

/** Ports of a service that are tried, the lowest ones. */
const MOST_PORTS = 20;

/** What is known of a service that is waited for. */
export interface HealthFacts {
  /** For messages. */
  readonly name: string;
  /** `80/tcp` of its image. */
  readonly exposed: readonly string[];
  /** `NAME=value` that its container sees, in the order of precedence: of its image, of the job, its own. */
  readonly env: readonly string[];
}

/**
 * Ports that tell whether a service is up: `HEALTHCHECK_TCP_PORT` of all that it sees, in letters of either case, else what its
 * image exposes. None: there is nothing to wait for.
 * @throws {SystemFailure} the variable is no port
 */
export function healthPorts({ name, exposed, env }: HealthFacts): number[] {
  const said = env.findLast((entry) => /^HEALTHCHECK_TCP_PORT=/i.test(entry));
  const given = said?.slice(said.indexOf("=") + 1).trim() ?? "";
  if (given !== "") {
    const port = /^\d{1,5}$/.test(given) ? Number(given) : 0;
    if (port > 0 && port < 65_536) return [port];
    throw new SystemFailure(
      `HEALTHCHECK_TCP_PORT of the service ${name} must be a port from 1 to 65535, not ${JSON.stringify(given.slice(0, 100))}`,
      { reason: "runner_configuration_error", retry: false },
    );
  }
  return exposed
    .flatMap((port) => {
      const [, number, protocol = "tcp"] = /^(\d{1,5})(?:\/(\w+))?$/.exec(port) ?? [];
      return number === undefined || protocol !== "tcp" ? [] : [Number(number)];
    })
    .filter((port) => port > 0 && port < 65_536)
    .sort((a, b) => a - b)
    .slice(0, MOST_PORTS);
}

/**
 * `$1`: seconds; `$2`: address; then ports. 0: one answers; 1: none did in time; 2: nothing here can ask.
 * bash and nc ask for a connection and no more; git asks for something that hardly a service knows, and hears that it was
 * refused. Tools differ in whether they can wait for a bounded time, so `timeout` does it where there is one.
 */
const PROBE = `seconds=$1 address=$2; shift 2
end=$(($(date +%s) + seconds))
limit=; if command -v timeout >/dev/null 2>&1; then
if timeout 1 true 2>/dev/null; then limit='timeout 2'; elif timeout -t 1 true 2>/dev/null; then limit='timeout -t 2'; fi; fi
if command -v bash >/dev/null 2>&1; then
ask() { $limit bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2"; }
elif command -v nc >/dev/null 2>&1; then
ask() { $limit nc -z -w 1 "$1" "$2" || $limit nc -w 1 "$1" "$2"; }
elif command -v git >/dev/null 2>&1; then
ask() { said=$(LANGUAGE=C LC_ALL=C $limit git ls-remote "git://$1:$2/" 2>&1) && return 0
case $said in *refused*|*nreachable*|*imed\\ out*|*oute\\ to*|*"unable to connect"*|'') return 1;; esac; }
else exit 2; fi
while :; do
for port do if ask "$address" "$port" </dev/null >/dev/null 2>&1; then exit 0; fi; done
[ "$(date +%s)" -lt "$end" ] || exit 1
sleep 0.1 2>/dev/null || sleep 1
done`;

/** A program for the helper container that waits until a port of `address` takes connections. It ends by itself. */
export function healthProbe(address: string, ports: readonly number[], limitMs: number): RemoteCommand {
  return { script: PROBE, args: [String(Math.ceil(limitMs / 1000)), address, ...ports.map(String)] };
}
