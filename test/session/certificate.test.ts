import { execFileSync } from "node:child_process";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { makeCertificate } from "../../src/session/certificate.ts";

test.each([
  ["runner.example.com", "DNS:runner.example.com", "-verify_hostname", "runner.example.com", "other.example.com"],
  ["192.0.2.7", "IP Address:192.0.2.7", "-verify_ip", "192.0.2.7", "192.0.2.8"],
  ["2001:db8::17", "IP Address:2001:DB8:0:0:0:0:0:17", "-verify_ip", "2001:db8::17", "2001:db8::18"],
])("a certificate for %s is good for that host alone", (host, name, flag, right, wrong) => {
  const dir = mkdtempSync(join(tmpdir(), "alloy-certificate-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const { certificate, key } = makeCertificate(host);
  const file = join(dir, "it.pem");
  writeFileSync(file, certificate);
  const verify = (subject: string): string =>
    execFileSync("openssl", ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", file, flag, subject, file], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  expect(verify(right)).toContain(": OK");
  expect(() => verify(wrong)).toThrow(/mismatch/i);
  const told = execFileSync("openssl", ["x509", "-in", file, "-noout", "-text"], { encoding: "utf8" });
  for (const part of [name, "CA:FALSE", "Digital Signature, Key Encipherment", "TLS Web Server Authentication"])
    expect(told).toContain(part);
  expect(new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key))).toBe(true);
});
