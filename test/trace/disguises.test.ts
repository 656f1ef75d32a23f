import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { secretForms } from "../../src/trace/mask/disguises.ts";
import { maskText } from "../../src/trace/mask/mask.ts";
import { compilePatterns } from "../../src/trace/mask/patterns.ts";

function masked(secrets: string[], text: string): string {
  return maskText(compilePatterns(secretForms(secrets)), text).toString();
}

const PLAIN = "Tr0ub4dor&3+x/y?";
const ODD = `p"a's\\s$w <ö>\n\t\`x!~#${"\x1b"}`;

describe("disguises", () => {
  it("masks base64 in every alignment, standard and URL-safe, padded and not", () => {
    for (const secret of ["secret", "secret1", "secret12", "s?>s?>~~~\u00ff", PLAIN]) {
      const patterns = compilePatterns(secretForms([secret]));
      for (const before of ["", "u", "us", "use", "user:", "admin:", "a:", "gitlab-ci-token:"]) {
        for (const after of ["", "\n", "x", "xy", "xyz"]) {
          for (const encoding of ["base64", "base64url"] as const) {
            const plain = Buffer.from(secret);
            const encoded = Buffer.from(before + secret + after).toString(encoding);
            for (const text of [encoded, encoded.replaceAll("=", "")]) {
              const out = maskText(patterns, `Basic ${text} ok`).toString();
              expect(out).toContain("[MASKED]");
              const left = out.replace("Basic ", "").replace(" ok", "").split("[MASKED]");
              // The rest tells at most something about the first and the last byte, never the secret.
              for (const rest of left) expect(Buffer.from(rest, encoding).includes(plain.subarray(0, 3))).toBe(false);
              expect(left.join("").length).toBeLessThanOrEqual(Math.ceil(((before + after).length * 4) / 3) + 4);
            }
          }
        }
      }
    }
  });

  it("leaves nothing of `user:secret` in base64 but the user", () => {
    const basic = Buffer.from("abc:hunter2-hunter2").toString("base64");
    expect(masked(["hunter2-hunter2"], basic)).toBe("YWJj[MASKED]");
  });

  it("masks base64 that was broken into lines", () => {
    const secret = Array.from({ length: 40 }, (_, index) => `line ${index} of a long key`).join("\n");
    const wrapped = Buffer.from(`${secret}\n`).toString("base64").replace(/.{76}/g, "$&\n");
    const left = masked([secret], wrapped).replaceAll("[MASKED]", "").trim();
    expect(left.length).toBeLessThan(4);
  });

  it("masks URL-encoded forms with hex digits of both cases", () => {
    for (const secret of [PLAIN, ODD]) {
      const upper = encodeURIComponent(secret);
      const lower = upper.replace(/%../g, (code) => code.toLowerCase());
      const form = new URLSearchParams({ a: secret }).toString();
      expect(masked([secret], `a=${upper}&`)).toBe("a=[MASKED]&");
      expect(masked([secret], `a=${lower}&`)).toBe("a=[MASKED]&");
      expect(masked([secret], form)).toBe("a=[MASKED]");
    }
    const user = new URL("http://h/");
    user.username = "u";
    user.password = PLAIN;
    expect(masked([PLAIN], user.href)).toBe("http://u:[MASKED]@h/");
  });

  it("masks JSON-escaped forms", () => {
    for (const secret of [PLAIN, ODD, "päss\u2028wörd/x"]) {
      const json = JSON.stringify(secret);
      expect(masked([secret], json)).toBe('"[MASKED]"');
      expect(masked([secret], json.replaceAll("/", "\\/"))).toBe('"[MASKED]"');
      const ascii = json.replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
      expect(masked([secret], ascii)).toBe('"[MASKED]"');
    }
  });

  it("masks what bash itself makes of a secret with set -x, printf %q and declare -p", () => {
    for (const secret of ["it's a secret", 'a"b$c`d\\e f', "two\nlines'of", "tab\there\x01", "~home#x;y", PLAIN, ODD]) {
      const script = `exec 2>&1; printf '%q\\n' "$S"; declare -p S; set -x; : "$S"; X="$S"`;
      const out = execFileSync("bash", ["--norc", "-c", script], {
        stdio: ["ignore", "pipe", "pipe"],
        env: { PATH: process.env.PATH, S: secret, LC_ALL: "C.UTF-8" },
      });
      const result = masked([secret], out.toString());
      expect(result.split("[MASKED]").length, `${JSON.stringify(out.toString())} → ${JSON.stringify(result)}`).toBe(5);
      expect(result).not.toContain(secret.slice(1, 5));
    }
  });

  it("masks multi-line values as a whole and line by line, with any line ending", () => {
    const key = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\r\n  indented-line\nabc\n-----END KEY-----\n";
    for (const ending of ["\n", "\r\n", "\r"]) {
      const lines = key.trimEnd().split(/\r?\n/);
      expect(masked([key], `<${lines.join(ending)}>`)).toBe("<[MASKED]>");
      expect(masked([key], `-${ending}MIIEpAIBAAKCAQEA${ending}> indented-line${ending}x`)).toBe(
        `-${ending}[MASKED]${ending}> [MASKED]${ending}x`,
      );
    }
    expect(masked([key], "-----BEGIN KEY----- abc")).toBe("-----BEGIN KEY----- abc");
  });

  it("leaves values of less than 6 bytes alone, and takes any text as a value", () => {
    expect(secretForms(["", "a", "12345", "  x  ", "\n\n\n\n\n\n\n"])).toEqual([]);
    expect(masked(["", "a", "12345"], "a 12345")).toBe("a 12345");
    expect(masked(["ééé"], "x ééé y")).toBe("x [MASKED] y");
    expect(masked(["\ud800secret"], "x \ufffdsecret y")).toBe("x [MASKED] y");
    expect(masked(["constructor", "__proto__"], "constructor __proto__")).toBe("[MASKED] [MASKED]");
  });
});
