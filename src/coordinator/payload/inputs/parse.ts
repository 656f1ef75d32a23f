import type { Budget } from "./budget.ts";
import { ExpressionError } from "./expression-error.ts";

/** An expression as it was written. */
export type Expression =
  | { readonly is: "literal"; readonly value: null | boolean | number | string }
  | { readonly is: "text"; readonly parts: Template }
  | { readonly is: "name"; readonly name: string }
  | { readonly is: "call"; readonly name: string; readonly of: readonly Expression[] }
  | { readonly is: "list"; readonly items: readonly Expression[] }
  | { readonly is: "object"; readonly entries: readonly (readonly [key: Expression, value: Expression])[] }
  | { readonly is: "member"; readonly of: Expression; readonly at: Expression }
  | { readonly is: "unary"; readonly operator: string; readonly of: Expression }
  | { readonly is: "binary"; readonly operator: string; readonly left: Expression; readonly right: Expression };

/** Text, and what is to be put between its parts. */
export type Template = readonly (string | { readonly expression: Expression; readonly source: string })[];

const RESERVED: ReadonlySet<string> = new Set(
  `array as break case const continue default else fallthrough float for func function goto if import in int let loop map
  namespace number object package range return string struct switch type var void while`.split(/\s+/),
);
const CONSTANTS: ReadonlyMap<string, null | boolean> = new Map([
  ["null", null],
  ["true", true],
  ["false", false],
]);
/** Operators of two sides by how strongly they bind, weakest first; longer ones come before those they begin with. */
const LEVELS: readonly (readonly string[])[] = [
  ["||"],
  ["&&"],
  ["==", "!=", "<=", ">=", "<", ">"],
  ["+", "-"],
  ["*", "/", "%"],
];
const ESCAPES: ReadonlyMap<string, string> = new Map([
  ["\\", "\\"],
  ['"', '"'],
  ["n", "\n"],
  ["r", "\r"],
  ["t", "\t"],
  ["a", "\x07"],
  ["b", "\b"],
  ["f", "\f"],
  ["v", "\v"],
  ["/", "/"],
]);
/** Deeper and longer expressions are nobody's, and would not fit on the stack; `Budget` bounds those of a job together. */
const DEEPEST = 100;
const MOST_LINKS = 1000;

/**
 * The parts of a text with `${{ expression }}` in it; `\${{` stands for `${{` itself.
 * @throws {ExpressionError} an expression is none
 */
export function parseTemplate(text: string, budget: Budget): Template {
  return new Parser(text, budget).template(undefined);
}

/** Reads from left to right; an expression ends where its grammar says, so that braces and quotes within it do no harm. */
class Parser {
  private at = 0;
  private depth = 0;
  private links = 0;
  private readonly text: string;
  private readonly budget: Budget;

  constructor(text: string, budget: Budget) {
    this.text = text;
    this.budget = budget;
  }

  /** @param quote what ends it, and then escapes count; `undefined`: the end of the text */
  template(quote: '"' | undefined): Template {
    const parts: (string | { expression: Expression; source: string })[] = [];
    let plain = "";
    for (;;) {
      if (this.at >= this.text.length) {
        if (quote !== undefined) throw new ExpressionError("a string is not closed");
        break;
      }
      if (this.text.startsWith("\\${{", this.at)) {
        plain += "${{";
        this.at += 4;
      } else if (this.text.startsWith("${{", this.at)) {
        if (plain !== "") parts.push(plain);
        plain = "";
        parts.push(this.block());
      } else if (quote !== undefined && this.text[this.at] === quote) {
        this.at++;
        break;
      } else if (quote !== undefined && this.text[this.at] === "\\") {
        plain += this.escape();
      } else {
        const next = this.nextOf(quote === undefined ? /\\?\$\{\{/g : /["\\]|\$\{\{/g);
        plain += this.text.slice(this.at, next);
        this.at = next;
      }
    }
    if (plain !== "") parts.push(plain);
    return parts;
  }

  private nextOf(pattern: RegExp): number {
    pattern.lastIndex = this.at;
    return pattern.exec(this.text)?.index ?? this.text.length;
  }

  private block(): { expression: Expression; source: string } {
    const start = this.at;
    this.at += 3;
    const expression = this.binary(0);
    if (!this.take("}}")) throw this.unexpected('"}}"');
    return { expression, source: this.text.slice(start, this.at) };
  }

  private escape(): string {
    const next = this.text[this.at + 1] ?? "";
    const code = next === "u" ? /^[0-9A-Fa-f]{4}/.exec(this.text.slice(this.at + 2, this.at + 6))?.[0] : undefined;
    if (code !== undefined) {
      this.at += 6;
      return String.fromCharCode(Number.parseInt(code, 16));
    }
    const plain = ESCAPES.get(next);
    if (plain === undefined) throw new ExpressionError("a string has an unknown escape sequence");
    this.at += 2;
    return plain;
  }

  private binary(level: number): Expression {
    const operators = LEVELS[level];
    if (operators === undefined) return this.unary();
    let left = this.binary(level + 1);
    for (;;) {
      const operator = operators.find((word) => this.take(word));
      if (operator === undefined) return left;
      this.link();
      left = { is: "binary", operator, left, right: this.binary(level + 1) };
    }
  }

  private unary(): Expression {
    if (++this.depth > DEEPEST) throw new ExpressionError("is nested too deeply");
    const operator = ["+", "-", "!"].find((word) => this.take(word));
    const found: Expression =
      operator === undefined ? this.chain(this.primary()) : { is: "unary", operator, of: this.unary() };
    this.depth--;
    return found;
  }

  private chain(first: Expression): Expression {
    let found = first;
    for (;;) {
      this.link();
      if (this.take(".")) {
        const name = this.word();
        if (name === undefined) throw this.unexpected("a name");
        found = { is: "member", of: found, at: { is: "literal", value: name } };
      } else if (this.take("[")) {
        found = { is: "member", of: found, at: this.binary(0) };
        this.expect("]");
      } else return found;
    }
  }

  private link(): void {
    this.budget.step();
    if (++this.links > MOST_LINKS) throw new ExpressionError("has too many parts");
  }

  private primary(): Expression {
    if (this.take("(")) {
      const inner = this.binary(0);
      this.expect(")");
      return inner;
    }
    if (this.take("[")) return { is: "list", items: this.list("]") };
    if (this.take("{")) return this.object();
    if (this.take('"')) return { is: "text", parts: this.template('"') };
    if (this.take("'")) return { is: "literal", value: this.quoted() };
    const digits = this.match(/\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/y);
    if (digits !== undefined) return { is: "literal", value: Number(digits) };
    const name = this.word();
    if (name === undefined) throw this.unexpected("a value");
    const constant = CONSTANTS.get(name);
    if (constant !== undefined) return { is: "literal", value: constant };
    if (RESERVED.has(name)) throw new ExpressionError(`"${name}" is a reserved word`);
    return this.take("(") ? { is: "call", name, of: this.list(")") } : { is: "name", name };
  }

  private list(end: string): Expression[] {
    const items: Expression[] = [];
    while (!this.take(end)) {
      items.push(this.binary(0));
      if (this.take(end)) break;
      this.expect(",");
    }
    return items;
  }

  private object(): Expression {
    const entries: [Expression, Expression][] = [];
    while (!this.take("}")) {
      const key = this.key();
      this.expect(":");
      entries.push([key, this.binary(0)]);
      if (this.take("}")) break;
      this.expect(",");
    }
    return { is: "object", entries };
  }

  private key(): Expression {
    const bare = this.word();
    if (bare !== undefined) return { is: "literal", value: bare };
    if (this.take('"')) return { is: "text", parts: this.template('"') };
    if (this.take("'")) return { is: "literal", value: this.quoted() };
    this.expect("(");
    const inner = this.binary(0);
    this.expect(")");
    return inner;
  }

  private quoted(): string {
    let made = "";
    for (;;) {
      const next = this.nextOf(/['\\]/g);
      made += this.text.slice(this.at, next);
      this.at = next + 1;
      if (this.text[next] === "'") return made;
      const escaped = this.text[this.at];
      if (escaped !== "'" && escaped !== "\\") {
        throw new ExpressionError("a string is not closed, or has an unknown escape sequence");
      }
      made += escaped;
      this.at++;
    }
  }

  private word(): string | undefined {
    return this.match(/[A-Za-z_]\w*/y);
  }

  private match(pattern: RegExp): string | undefined {
    this.skipBlanks();
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0];
    this.at += found?.length ?? 0;
    return found;
  }

  private take(word: string): boolean {
    this.skipBlanks();
    if (!this.text.startsWith(word, this.at)) return false;
    this.at += word.length;
    return true;
  }

  private expect(word: string): void {
    if (!this.take(word)) throw this.unexpected(`"${word}"`);
  }

  private skipBlanks(): void {
    while (/\s/.test(this.text[this.at] ?? "")) this.at++;
  }

  private unexpected(wanted: string): ExpressionError {
    this.skipBlanks();
    const there = this.text[this.at];
    return new ExpressionError(`expected ${wanted}, found ${there === undefined ? "the end" : JSON.stringify(there)}`);
  }
}
