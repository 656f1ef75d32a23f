import { X509Certificate } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { createSecureContext, getCACertificates, rootCertificates, type SecureContext } from "node:tls";
import { describeError, SystemFailure } from "../../errors.ts";
import type { CoordinatorSettings } from "../contract.ts";

/** Where the certificates for one host are configured, or looked for. */
export type TlsSettings = Pick<CoordinatorSettings, "tlsCaFile" | "tlsCertFile" | "tlsKeyFile" | "certsDir">;

/** What is trusted, and who we are. Replaced as a whole when a file changes. */
export interface TlsMaterial {
  readonly context: SecureContext;
  /** Texts of the files that are in use. */
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
}

export interface TlsSource {
  /**
   * The files as they are now; looked at every few seconds at most. The same object until one of them changes, whatever its date.
   * @throws {SystemFailure} a file that is there, or that is configured, cannot be used; the next call looks again
   */
  current(): Promise<TlsMaterial>;
}

/** One file of three: what `setting` says, else `discovered` if it is there. */
interface Place {
  readonly setting: string;
  readonly path: string;
  readonly configured: boolean;
}

export interface TlsPlaces {
  readonly ca: Place;
  readonly cert: Place;
  readonly key: Place;
}

/** `host` is the URL's: without its port, IPv6 addresses without brackets. */
export function tlsPlaces(url: URL, settings: TlsSettings): TlsPlaces {
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const place = (setting: string, configured: string | undefined, ending: string): Place => ({
    setting,
    path: configured || join(settings.certsDir, `${host}.${ending}`),
    configured: Boolean(configured),
  });
  return {
    ca: place("tls-ca-file", settings.tlsCaFile, "crt"),
    cert: place("tls-cert-file", settings.tlsCertFile, "auth.crt"),
    key: place("tls-key-file", settings.tlsKeyFile, "auth.key"),
  };
}

/** The certificates that everybody trusts: those of the system, of `NODE_EXTRA_CA_CERTS`, and those that came along. */
export function createRoots(): () => readonly string[] {
  let roots: readonly string[] | undefined;
  return () =>
    (roots ??= [...new Set([...rootCertificates, ...getCACertificates("system"), ...getCACertificates("extra")])]);
}

/** @param checkMs how long an answer is good for, before the files are looked at again */
export function openTlsSource(places: TlsPlaces, roots: () => readonly string[], checkMs: number): TlsSource {
  let material: TlsMaterial | undefined;
  let signature = "";
  let checkedAt = Number.NEGATIVE_INFINITY;
  let checking: Promise<TlsMaterial> | undefined;

  const check = async (): Promise<TlsMaterial> => {
    const seen = await Promise.all([places.ca, places.cert, places.key].map(signatureOf));
    const now = seen.join("|");
    if (material === undefined || now !== signature) {
      material = undefined; // what cannot be read is not trusted any longer
      material = await load(places, roots);
      signature = now;
    }
    checkedAt = performance.now();
    return material;
  };

  return {
    async current() {
      if (material !== undefined && performance.now() - checkedAt < checkMs) return material;
      checking ??= check().finally(() => {
        checking = undefined;
      });
      return await checking;
    },
  };
}

/** Changes whenever the file does. The change time cannot be set, so an old date does not hide new content. */
async function signatureOf(place: Place): Promise<string> {
  try {
    const { mtimeNs, ctimeNs, size, ino } = await stat(place.path, { bigint: true });
    return `${mtimeNs}:${ctimeNs}:${size}:${ino}`;
  } catch (error) {
    return isMissing(error) ? "missing" : "unreadable";
  }
}

async function load(places: TlsPlaces, roots: () => readonly string[]): Promise<TlsMaterial> {
  const [ca, cert, key] = await Promise.all([read(places.ca), read(places.cert), read(places.key)]);
  if ((cert === undefined) !== (key === undefined)) {
    const [there, missing] = cert === undefined ? [places.key, places.cert] : [places.cert, places.key];
    // A lone discovered file is somebody's leftover, a lone setting is a mistake.
    if (there.configured) throw unusable(there, `it needs ${missing.setting} as well`);
  }
  const pair = cert === undefined || key === undefined ? undefined : { cert, key };
  const trusted = ca === undefined ? [] : certificatesIn(ca, places.ca);
  try {
    const context = createSecureContext({ ca: [...roots(), ...trusted], minVersion: "TLSv1.2", ...pair });
    return { context, ca, cert: pair?.cert, key: pair?.key };
  } catch (error) {
    throw unusable(places.cert, `it does not work together with ${places.key.path}: ${describeError(error)}`, error);
  }
}

async function read(place: Place): Promise<string | undefined> {
  try {
    return await readFile(place.path, "utf8");
  } catch (error) {
    if (!place.configured && isMissing(error)) return undefined;
    throw unusable(place, describeError(error), error);
  }
}

/** Each certificate of a bundle by itself: given as one text, not every runtime reads beyond the first. */
function certificatesIn(text: string, place: Place): string[] {
  const blocks = text.match(/-----BEGIN (?:X509 )?CERTIFICATE-----[^-]+-----END (?:X509 )?CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) {
    throw unusable(place, "there is no certificate in it; expected PEM, which begins with -----BEGIN CERTIFICATE-----");
  }
  blocks.forEach((block, index) => {
    try {
      new X509Certificate(block);
    } catch (error) {
      throw unusable(place, `certificate ${index + 1} of ${blocks.length} in it is damaged`, error);
    }
  });
  return blocks;
}

// `retry`, because a file that is being replaced may be whole a moment later: no result may be lost over that.
function unusable(place: Place, reason: string, cause?: unknown): SystemFailure {
  const name = place.configured ? `${place.setting} "${place.path}"` : `"${place.path}"`;
  return new SystemFailure(`${name} cannot be used: ${reason}`, {
    retry: true,
    reason: "runner_configuration_error",
    cause,
  });
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR");
}
