import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { SystemFailure } from "../../../src/errors.ts";

const FILES = ["ca.pem", "ca-key.pem", "cert.pem", "key.pem"] as const;

/**
 * The certificates that all machines of a store share. Several first creations at once leave a client certificate that does not
 * belong to the authority: then every machine is "up and running", and no engine answers, ever.
 * @returns `null`: they are not all there yet, so the next creation makes them and has to be alone
 * @throws {SystemFailure} they do not belong together, or are too old
 */
export async function checkCertificates(store: string, now = new Date()): Promise<{ readonly until: Date } | null> {
  const dir = join(store, "certs");
  const texts = await Promise.all(FILES.map((name) => readFile(join(dir, name)).catch(() => null)));
  const [ca, caKey, cert, key] = texts;
  if (!ca?.length || !caKey?.length || !cert?.length || !key?.length) return null;
  const refuse = (why: string): SystemFailure =>
    new SystemFailure(
      `The certificates in ${dir} cannot be used: ${why}. Remove all machines of this store and then that directory: docker-machine makes new certificates`,
      { reason: "runner_configuration_error" },
    );
  let authority: X509Certificate;
  let client: X509Certificate;
  try {
    authority = new X509Certificate(ca);
    client = new X509Certificate(cert);
  } catch (cause) {
    throw refuse(`ca.pem or cert.pem is no certificate (${cause instanceof Error ? cause.message : String(cause)})`);
  }
  if (!client.checkIssued(authority) || !client.verify(authority.publicKey)) {
    throw refuse("cert.pem was not issued by ca.pem, so no machine's engine lets the runner in");
  }
  const until = new Date(Math.min(Date.parse(authority.validTo), Date.parse(client.validTo)));
  if (until <= now) throw refuse(`they ended on ${until.toISOString().slice(0, 10)}`);
  return { until };
}
