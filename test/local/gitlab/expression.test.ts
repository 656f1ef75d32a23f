import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { holds, parseExpression } from "../../../src/local/gitlab/decide/expression.ts";

const VARIABLES: Readonly<Record<string, string>> = {
  E: "",
  A: "a",
  B: "main",
  P: "/^ma/",
  Q: "/(/",
  R: "$B",
  Z: "0",
  F: "false",
  W: "  ",
  T: "true",
};

function evaluate(source: string): boolean | "error" {
  const expression = parseExpression(source);
  if (typeof expression === "string") return "error";
  return holds(expression, { variable: (name) => VARIABLES[name] });
}

describe("if, row by row", () => {
  test.each<[string, boolean | "error"]>([
    ["$N == null", true],
    ["$E == null", false],
    ['$N == ""', false],
    ['$E == ""', true],
    ['$N != "x"', true],
    ["$N != $E", true],
    ['"a" == $A', true],
    ["$N =~ /^$/", true],
    ["$N =~ /.*/", true],
    ["$A =~ null", false],
    ["$A =~ $N", false],
    ["$A !~ $N", true],
    ["$E && $A", true],
    ["$E || $A", false],
    ["$N || $A", true],
    ["$N && $A", false],
    ["!$E && $A", true],
    ['!$A == "a"', false],
    ['$A == "a" || $N && $N', true],
    ["$B =~ $P", true],
    ['$B =~ "/^ma/"', true],
    ["$B =~ '/m/'", true],
    ['$B =~ "main branch"', true],
    ['"ai" =~ $B', true],
    ['$B =~ "ma"', false],
    ['$E =~ "x"', true],
    ["$A =~ $Q", false],
    ['$R == "main"', false],
    ['"$A" == "a"', false],
    ["$A =~ /$A/", false],
    ["$T == true", true],
    ["$A == /aa/", "error"],
    ["/aa/ == $A", "error"],
    ["$A==1", "error"],
    ['$a-b == "x"', "error"],
    ["/a/b/", "error"],
    ["/ma/ig", "error"],
    ["$B =~ /m/", "error"],
    ["$B =~ /mA/i", true],
    ["$B =~ /(mai/", "error"],
    ["$B =~ /ma(?=in)/", "error"],
    ["$B =~ /a\\/b/", false],
    ["${A}", "error"],
    ["%A%", "error"],
    ["$A = $B", "error"],
    ["$A and $B", "error"],
    ["$A == NULL", "error"],
    ["$A < $B", "error"],
    ['"a\\"b" == $A', "error"],
    ["$Z", true],
    ["$F", true],
    ["$W", false],
    ["$E", false],
    ["$N", false],
    ['"text"', true],
    ["/text/", true],
    ["null", false],
    ['$A == "a"\n  && $B', true],
    ["($A == 'b' || $B) && !($N)", true],
    ["(($A)", "error"],
    ["$A)", "error"],
    ["", "error"],
    [Array.from({ length: 49 }, () => "$A").join(" || "), true],
    [Array.from({ length: 60 }, () => "$A").join(" || "), "error"],
  ])("%s → %s", (source, expected) => {
    expect(evaluate(source)).toBe(expected);
  });
});

/** An expression as a person would build it, its text, and its value by the plainest of ways. */
type Naive = { readonly text: string; readonly value: string | boolean | undefined; readonly level: number };

const ATOMS: readonly Naive[] = [
  ...["N", "E", "A", "B", "W"].map((name) => ({ text: `$${name}`, value: VARIABLES[name], level: 3 })),
  { text: '"a"', value: "a", level: 3 },
  { text: "'main'", value: "main", level: 3 },
  { text: "null", value: undefined, level: 3 },
];
const truthy = (value: Naive["value"]): boolean => (typeof value === "string" ? value.trim() !== "" : value === true);
const rubyTruthy = (value: Naive["value"]): boolean => value !== undefined && value !== false;
const asText = (value: Naive["value"]): string | undefined => (value === undefined ? undefined : String(value));
const wrap = (part: Naive, level: number): string => (part.level < level ? `(${part.text})` : part.text);

const naive: fc.Arbitrary<Naive> = fc.letrec<{ tree: Naive }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4, depthIdentifier: "tree" },
    fc.constantFrom(...ATOMS),
    fc.tuple(fc.constantFrom("&&", "||", "==", "!="), tie("tree"), tie("tree")).map(([operator, a, b]): Naive => {
      const level = operator === "||" ? 0 : operator === "&&" ? 1 : 2;
      const text = `${wrap(a, level)} ${operator} ${wrap(b, level + 1)}`;
      if (operator === "&&") return { text, level, value: rubyTruthy(a.value) ? b.value : a.value };
      if (operator === "||") return { text, level, value: rubyTruthy(a.value) ? a.value : b.value };
      return { text, level, value: (asText(a.value) === asText(b.value)) === (operator === "==") };
    }),
    tie("tree").map((of): Naive => ({ text: `!${wrap(of, 3)}`, value: !truthy(of.value), level: 3 })),
  ),
})).tree;

test("any expression means what its tree means", () => {
  fc.assert(
    fc.property(naive, (tree) => {
      const parsed = parseExpression(tree.text);
      if (typeof parsed === "string") return expect(parsed).toContain("100 or more parts");
      expect(holds(parsed, { variable: (name) => VARIABLES[name] }), tree.text).toBe(truthy(tree.value));
    }),
    { numRuns: 2000 },
  );
});
