import { describe, expect, it } from "vitest";
import { secretForms } from "../../src/trace/mask/disguises.ts";
import { createMask, MASKED } from "../../src/trace/mask/mask.ts";
import { compilePatterns, type Patterns } from "../../src/trace/mask/patterns.ts";

function literal(...secrets: (string | Buffer)[]): Patterns {
  return compilePatterns(secrets.map((secret) => Buffer.from(secret)));
}

function maskPieces(patterns: Patterns, pieces: readonly (string | Uint8Array)[]): string {
  const mask = createMask(patterns);
  const parts = pieces.map((piece) => Buffer.from(mask.push(Buffer.from(piece))));
  return Buffer.concat([...parts, mask.flush()]).toString("latin1");
}

/** The expected result, found in the slow way: all occurrences, overlapping ones merged. */
function expected(text: Buffer, secrets: readonly Buffer[]): string {
  const found: [number, number][] = [];
  for (const secret of secrets) {
    for (let at = text.indexOf(secret); at >= 0; at = text.indexOf(secret, at + 1))
      found.push([at, at + secret.length]);
  }
  found.sort(([a], [b]) => a - b);
  let out = "";
  let covered = 0;
  for (const [start, end] of found) {
    if (start >= covered) out += text.toString("latin1", covered, start) + MASKED;
    covered = Math.max(covered, end);
  }
  return out + text.toString("latin1", covered);
}

function random(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

describe("secrets in one write or many", () => {
  const cases: [name: string, secrets: string[], text: string, result: string][] = [
    ["nothing to hide", [], "secret|s", "secrets"],
    ["split at its last byte", ["secrets"], "secret|s", "[MASKED]"],
    ["split at its first byte", ["secrets"], "s|ecrets", "[MASKED]"],
    ["twice in a row", ["secrets"], "secretssecrets", "[MASKED][MASKED]"],
    ["after its own first letter", ["secrets"], "s|secrets", "s[MASKED]"],
    ["after a false start", ["secrets"], "secret secretsecrets", "secret [MASKED]"],
    ["start, middle and end", ["foofoo", "barbar"], "foofoo x barbar y foofoo", "[MASKED] x [MASKED] y [MASKED]"],
    ["the longest wins", ["maskmask", "prefix_maskmask"], "maskmask prefix_|maskmask", "[MASKED] [MASKED]"],
    ["a longer one that does not come", ["secret", "secret-longer"], "secret-longe|!", "[MASKED]-longe!"],
    ["a longer one cut off by the end", ["secret", "secret-longer"], "secret-longe", "[MASKED]-longe"],
    ["nested in a longer one that fails", ["cdefgh", "abcdefghXYZ"], "abcdefghXY!", "ab[MASKED]XY!"],
    ["overlapping", ["this is the end", "end foobar", "the end"], "this is the en|d foobar", "[MASKED]"],
    ["overlapping itself", ["aabaab"], "aabaabaab", "[MASKED]"],
    ["full of pattern characters", ["^.*$[a-z]+\\d{2}(?=z)"], "x^.*$[a-z]+\\d{2}(?=x)x", "x^.*$[a-z]+\\d{2}(?=x)x"],
  ];
  it.each(cases)("%s", (_name, secrets, text, result) => {
    const patterns = literal(...secrets);
    expect(maskPieces(patterns, text.split("|"))).toBe(result);
    const whole = Buffer.from(text.replaceAll("|", ""));
    for (let cut = 0; cut <= whole.length; cut++) {
      expect(maskPieces(patterns, [whole.subarray(0, cut), whole.subarray(cut)])).toBe(result);
    }
    expect(
      maskPieces(
        patterns,
        Array.from(whole, (byte) => Uint8Array.of(byte)),
      ),
    ).toBe(result);
  });

  it("masks secrets of pattern characters and of ff bytes as they are", () => {
    const odd = "^.*$[a-z]+\\d{2}(?=x)";
    expect(maskPieces(literal(odd), [`a${odd}b`])).toBe("a[MASKED]b");
    const bytes = Buffer.alloc(9, 0xff);
    expect(maskPieces(literal(bytes), [Buffer.concat([Buffer.from("a"), bytes, Buffer.from("b")])])).toBe("a[MASKED]b");
  });

  it("masks a secret of 16,000 bytes over two writes, and one that a long one begins with", () => {
    const long = "_".repeat(16_000);
    expect(maskPieces(literal(long), [`> ${"_".repeat(8000)}`, `${"_".repeat(8000)} <`])).toBe("> [MASKED] <");
    const other = `${"x".repeat(15_999)}y`;
    expect(maskPieces(literal(other), [`${"x".repeat(15_998)}z`, other])).toBe(`${"x".repeat(15_998)}z[MASKED]`);
  });

  it("holds back only what can still become a secret", () => {
    const mask = createMask(literal("secret-value"));
    expect(mask.push(Buffer.from("plain text sec")).toString()).toBe("plain text ");
    expect(mask.push(Buffer.from("r")).toString()).toBe("");
    expect(mask.push(Buffer.from("ond")).toString()).toBe("secrond");
    expect(mask.push(Buffer.from("line\n")).toString()).toBe("line\n");
    expect(mask.push(Buffer.from("secret-value")).toString()).toBe("[MASKED]");
    expect(mask.push(Buffer.from("half secret-va")).toString()).toBe("half ");
    expect(mask.flush().toString()).toBe("secret-va");
    expect(mask.push(Buffer.from("lue")).toString()).toBe("lue");
  });

  it("gives the same for every way of cutting random text full of secrets", () => {
    const next = random(4711);
    for (let round = 0; round < 400; round++) {
      const alphabet = 2 + next(3);
      const word = (length: number): Buffer => Buffer.from(Array.from({ length }, () => 97 + next(alphabet)));
      const secrets = Array.from({ length: 1 + next(6) }, () => word(6 + next(10)));
      const text = Buffer.concat(
        Array.from({ length: 20 }, () => (next(3) === 0 ? (secrets[next(secrets.length)] ?? word(3)) : word(next(8)))),
      );
      const patterns = literal(...secrets);
      const result = expected(text, secrets);
      expect(maskPieces(patterns, [text])).toBe(result);
      for (let cut = 1; cut < text.length; cut++) {
        expect(maskPieces(patterns, [text.subarray(0, cut), text.subarray(cut)])).toBe(result);
      }
      const pieces: Buffer[] = [];
      for (let at = 0; at < text.length; ) {
        const size = 1 + next(7);
        pieces.push(text.subarray(at, at + size));
        at += size;
      }
      expect(maskPieces(patterns, pieces)).toBe(result);
    }
  });

  it("finds each of 1,000 secrets", () => {
    const next = random(99);
    const secrets = Array.from({ length: 1000 }, () =>
      Array.from({ length: 20 }, () => next(36).toString(36)).join(""),
    );
    const text = secrets.map((secret) => `x ${secret} y`).join("\n");
    expect(maskPieces(compilePatterns(secretForms(secrets)), [text])).toBe(
      secrets.map(() => "x [MASKED] y").join("\n"),
    );
  });
});

/** Checks that `text` becomes `result`, whole and in any three pieces. */
function expectMasked(patterns: Patterns, text: string, result: string): void {
  const whole = Buffer.from(text);
  expect(maskPieces(patterns, [whole])).toBe(result);
  for (let cut = 0; cut <= whole.length; cut++) {
    for (let next = cut; next <= whole.length; next++) {
      const pieces = [whole.subarray(0, cut), whole.subarray(cut, next), whole.subarray(next)];
      expect(maskPieces(patterns, pieces)).toBe(result);
    }
  }
}

describe("token prefixes", () => {
  const patterns = compilePatterns([], ["tok-", "ab:"]);
  it.each([
    ["a glpat-imperdiet in", "a glpat-[MASKED] in"],
    ["esseglpat-imperdiet=_-. end", "esseglpat-[MASKED] end"],
    ["glpat-impglpat-erdiet Lorem", "glpat-[MASKED] Lorem"],
    ["glpat -imperdiet glpat- x", "glpat -imperdiet glpat- x"],
    ["Lortok-ipsu amtok-t, glpat-", "Lortok-[MASKED] amtok-[MASKED], glpat-"],
    ["ab:ab:x ab: ab:y", "ab:[MASKED]:[MASKED] ab: ab:[MASKED]"],
  ])("%s", (text, result) => {
    // `ab` in the middle of `ab:ab:x` is a word after a prefix, and also a prefix itself.
    expectMasked(patterns, text, result);
  });
});

describe("URL parameters", () => {
  const patterns = compilePatterns([Buffer.from("deadbeef")]);
  it.each([
    ["http://e.org/?test=foobar", "http://e.org/?test=foobar"],
    ["http://e.org/?private_token=hello there", "http://e.org/?private_token=[MASKED] there"],
    [
      "http://e.org/?rss_token=hide&x-amz-credential=deadbeef b",
      "http://e.org/?rss_token=[MASKED]&x-amz-credential=[MASKED] b",
    ],
    [
      "&?X-AMZ-sigNATure=a%2Fb/c?X-Amz-Security-Token=q\n",
      "&?X-AMZ-sigNATure=[MASKED]?X-Amz-Security-Token=[MASKED]\n",
    ],
    ["rss_token=notmasked ?authenticity_token=!@#$A&b=c", "rss_token=notmasked ?authenticity_token=[MASKED]&b=c"],
    ["?x-amz-credential=&private_token=gitlab", "?x-amz-credential=[MASKED]&private_token=[MASKED]"],
    ['"http://e.org/?private_token=deadbeefdeadbeef"', '"http://e.org/?private_token=[MASKED]"'],
    ["?private_token=glpat-deadbeefx&a", "?private_token=[MASKED]&a"],
    ["?x-amz-credential=", "?x-amz-credential=[MASKED]"],
    ["?x-amz-", "?x-amz-"],
  ])("%s", (text, result) => {
    expectMasked(patterns, text, result);
  });
});

describe("everything at once", () => {
  it("does not depend on cutting where secrets, prefixes and URL parameters meet", () => {
    const next = random(20260101);
    const parts = [
      "glpat-",
      "ab:",
      "?private_token=",
      "&X-Amz-Credential=",
      "glpat-secret",
      "secret",
      "-secret",
      "ecret-",
      "\n",
      "&",
      " ",
    ];
    const secrets = ["secret-secret", "&private", "token=secret", "cret glpat-", "=secret", "et?private_token=x"];
    const patterns = compilePatterns(
      secrets.map((secret) => Buffer.from(secret)),
      ["ab:"],
    );
    for (let round = 0; round < 1500; round++) {
      const text = Buffer.from(Array.from({ length: 1 + next(12) }, () => parts[next(parts.length)]).join(""));
      const result = maskPieces(patterns, [text]);
      for (const secret of secrets) expect(result).not.toContain(secret);
      expect(
        maskPieces(
          patterns,
          Array.from(text, (byte) => Uint8Array.of(byte)),
        ),
        text.toString(),
      ).toBe(result);
      for (let tries = 0; tries < 5; tries++) {
        const [first, second] = [next(text.length + 1), next(text.length + 1)].sort((a, b) => a - b);
        const pieces = [text.subarray(0, first), text.subarray(first, second), text.subarray(second)];
        expect(maskPieces(patterns, pieces), `${text.toString()} at ${first}, ${second}`).toBe(result);
      }
    }
  });
});
