import { createHash, generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { isIP } from "node:net";
import { bare, bits, identifier, integer, octets, sequence, set, tagged, text, time, yes } from "./der.ts";

export interface Certificate {
  /** PEM */
  readonly certificate: string;
  readonly key: string;
}

const ECDSA_WITH_SHA256 = sequence(identifier("1.2.840.10045.4.3.2"));
/** Clocks of coordinators may be behind. */
const SLOW_CLOCK_MS = 24 * 3600_000;
/** It is made anew at each start of the runner, which hardly lives longer. */
const LIFE_MS = 10 * 365 * 24 * 3600_000;

/**
 * A certificate of this process's own for one host, and its key. Who connects is told to trust it and no other, so it is signed by
 * itself and signs nothing else. Written by hand because the runtime makes none, and what libraries there are bring ten times as much.
 * @param host a name or an address, without brackets
 */
export function makeCertificate(host: string, now = new Date()): Certificate {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const spki = publicKey.export({ type: "spki", format: "der" });
  const name = sequence(set(sequence(identifier("2.5.4.3"), text("alloy-runner session server"))));
  const serial = randomBytes(16);
  const body = sequence(
    tagged(0, integer(Buffer.from([2]))),
    integer(serial),
    ECDSA_WITH_SHA256,
    name,
    sequence(time(new Date(now.getTime() - SLOW_CLOCK_MS)), time(new Date(now.getTime() + LIFE_MS))),
    name,
    spki,
    tagged(
      3,
      sequence(
        extension("2.5.29.19", true, sequence()),
        // Digital signatures and encipherment of keys.
        extension("2.5.29.15", true, bits(Buffer.from([0xa0]), 5)),
        extension("2.5.29.37", false, sequence(identifier("1.3.6.1.5.5.7.3.1"))),
        extension("2.5.29.14", false, octets(createHash("sha1").update(spki).digest())),
        extension("2.5.29.17", false, sequence(alternativeName(host))),
      ),
    ),
  );
  const signature = sign("sha256", body, privateKey);
  const der = sequence(body, ECDSA_WITH_SHA256, bits(signature));
  return {
    certificate: pem("CERTIFICATE", der),
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}

function extension(id: string, critical: boolean, contents: Uint8Array): Buffer {
  return sequence(identifier(id), ...(critical ? [yes] : []), octets(contents));
}

function alternativeName(host: string): Buffer {
  const kind = isIP(host);
  if (kind === 0) return bare(2, Buffer.from(host, "latin1"));
  return bare(7, kind === 4 ? Buffer.from(host.split(".").map(Number)) : bytesOfV6(host));
}

/** `2001:db8::1`, `::ffff:192.0.2.1` */
function bytesOfV6(host: string): Buffer {
  const hex = host.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a, b, c, d) =>
    [Number(a) * 256 + Number(b), Number(c) * 256 + Number(d)].map((pair) => pair.toString(16)).join(":"),
  );
  const [head = "", tail] = hex.split("::").map((half) => half);
  const groups = (half: string): number[] =>
    half === "" ? [] : half.split(":").map((group) => Number.parseInt(group, 16));
  const before = groups(head);
  const after = groups(tail ?? "");
  const all = [...before, ...Array.from({ length: 8 - before.length - after.length }, () => 0), ...after];
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

function pem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}
