import { lookup } from "node:dns/promises";
import { request } from "node:http";
import { isIP } from "node:net";
import { connect } from "node:tls";
import type { RunnerConfig } from "../../config/config.ts";
import { verifyToken } from "../../coordinator/registration.ts";
import { ConfigError, describeError } from "../../errors.ts";
import { proxyFor } from "../../proxy/proxy.ts";
import type { CommandContext } from "../context.ts";
import { runnerInfoOf } from "../runner-info.ts";
import type { Finding, Note } from "./finding.ts";

const LIMIT_MS = 15_000;
const DAY_MS = 86_400_000;
/** A certificate or token that expires sooner than this gets a warning. */
const SOON_MS = 14 * DAY_MS;
/** With a larger difference the signatures of buckets and the times of traces are wrong. */
const MOST_SKEW_MS = 60_000;
const SLOW_MS = 2000;

/** Checks an entry's way to its coordinator: proxy, name, certificate, clock, token. */
export async function checkCoordinator(entry: RunnerConfig, context: CommandContext): Promise<Note[]> {
  const { url, name } = entry;
  const finding = (severity: Finding["severity"], cause: string, remedy: string): Finding => ({
    severity,
    check: "coordinator",
    of: name,
    cause,
    remedy,
  });
  let direct: boolean;
  try {
    direct = proxyFor(url, context.env) === undefined;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return [finding("error", error.message, "Correct the variable of the runner's service, or unset it")];
  }
  const host = url.hostname.replace(/^\[|\]$/g, "");
  if (direct) {
    const problem = await lookup(host).then(() => null, describeError);
    if (problem !== null) {
      return [
        finding(
          "error",
          `the name ${host} cannot be resolved: ${problem}`,
          "Correct url, or this machine's resolver (/etc/resolv.conf)",
        ),
      ];
    }
  }
  const notes: Note[] = [];
  const begun = performance.now();
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(LIMIT_MS)]);
  const answer = await verifyToken(entry, entry.token, await runnerInfoOf(entry, context), context.coordinator, signal);
  const tookMs = Math.round(performance.now() - begun);
  if (answer.kind === "trouble") notes.push(finding("error", answer.message, remedyOf(answer.status)));
  if (answer.kind === "unknown") {
    notes.push(
      finding("error", answer.message, 'Register the runner again with "alloy-runner register", or remove its entry'),
    );
  }
  if (answer.kind === "valid") {
    notes.push({
      severity: "ok",
      check: "coordinator",
      of: name,
      cause: `${url.origin} knows the token, answered in ${tookMs} ms`,
    });
    if (tookMs > SLOW_MS)
      notes.push(
        finding(
          "warning",
          `${url.origin} took ${tookMs} ms to answer`,
          "Jobs start late: look at the network and the coordinator",
        ),
      );
    const { expiresAtMs } = answer;
    const left = (expiresAtMs ?? Number.POSITIVE_INFINITY) - Date.now();
    if (left < SOON_MS)
      notes.push(
        finding(
          "warning",
          `its token expires on ${new Date(expiresAtMs ?? 0).toISOString()}`,
          "Renew it at the coordinator, and put the new one into the entry",
        ),
      );
  }
  if (direct && answer.kind !== "trouble") {
    const skew = url.protocol === "https:" ? null : await skewOf(url).catch(() => null);
    if (skew !== null && Math.abs(skew) > MOST_SKEW_MS) {
      const seconds = Math.round(Math.abs(skew) / 1000);
      notes.push(
        finding(
          "warning",
          `this machine's clock is ${seconds} s ${skew < 0 ? "behind" : "before"} the coordinator's`,
          "Keep both in time with NTP: signatures and times of traces are wrong otherwise",
        ),
      );
    }
  }
  if (direct && url.protocol === "https:") {
    const leftMs = await certificateLeftMs(host, Number(url.port || 443)).catch(() => null);
    if (leftMs !== null && leftMs < SOON_MS) {
      const when = leftMs < 0 ? "has expired" : `expires within ${Math.ceil(leftMs / DAY_MS)} days`;
      notes.push(
        finding(
          leftMs < 0 ? "error" : "warning",
          `the certificate of ${url.host} ${when}`,
          "Renew it at the coordinator",
        ),
      );
    }
  }
  return notes;
}

function remedyOf(status: number): string {
  if (status === 0) return "Check url, firewall and proxy; for certificates, tls-ca-file";
  return status >= 500
    ? "The coordinator is in trouble: look at its log"
    : "Check url: it is the address of the coordinator itself";
}

/** How far this machine's clock is ahead of the server's, whose answers give the time in seconds. */
async function skewOf(url: URL): Promise<number | null> {
  return await new Promise((resolve, reject) => {
    request(url, { method: "HEAD", signal: AbortSignal.timeout(5000), agent: false })
      .on("response", (response) => {
        response.destroy();
        const time = Date.parse(response.headers.date ?? "");
        resolve(Number.isNaN(time) ? null : Date.now() - time);
      })
      .on("error", reject)
      .end();
  });
}

/** How long the certificate is still valid, whoever signed it. */
async function certificateLeftMs(host: string, port: number): Promise<number | null> {
  return await new Promise((resolve, reject) => {
    const socket = connect(
      { host, port, ...(isIP(host) === 0 ? { servername: host } : {}), rejectUnauthorized: false, timeout: 5000 },
      () => {
        const until = Date.parse(socket.getPeerCertificate().valid_to);
        socket.destroy();
        resolve(Number.isNaN(until) ? null : until - Date.now());
      },
    );
    socket.on("error", reject);
    socket.on("timeout", () => socket.destroy(new Error("timed out")));
  });
}
