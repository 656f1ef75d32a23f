import { patternOf } from "./regex.ts";

/**
 * `if` of `rules`, `include` and `workflow`, and `only:variables`. Its grammar is GitLab's own:
 *
 *     expr  := or        or  := and { "||" and }        and := cmp { "&&" cmp }
 *     cmp   := unary { ("==" | "!=" | "=~" | "!~") unary }
 *     unary := "!" unary | "(" expr ")" | value
 *     value := $NAME | "text" | 'text' | /regex/flags | null | true | false | $[[ inputs.x ]]
 */
export type Expression =
  | { readonly kind: "variable" | "input" | "text" | "regex"; readonly text: string }
  | { readonly kind: "null" }
  | { readonly kind: "not"; readonly of: Expression }
  | { readonly kind: "pair"; readonly operator: Operator; readonly left: Expression; readonly right: Expression };

export type Operator = "==" | "!=" | "=~" | "!~" | "&&" | "||";

/** What variables and inputs are called, and their values: unset ones are `undefined`. */
export interface Names {
  variable(name: string): string | undefined;
  input?(name: string): string | undefined;
}

interface Token {
  readonly kind: "operator" | "variable" | "input" | "text" | "regex" | "word";
  readonly text: string;
}

const MOST_TOKENS = 100;
/** The tokens, in the order in which GitLab tries them. */
const TOKENS: readonly (readonly [Token["kind"], RegExp])[] = [
  ["operator", /\(|\)/y],
  ["input", /\$\[\[\s*inputs\.([\w-]+)\s*\]\]/y],
  ["variable", /\$(\w+)/y],
  ["text", /"(.*?)"|'(.*?)'/y],
  ["regex", /\/(?:[^/]|\\\/)+[^\\]\/[ismU]*/y],
  ["word", /null|true|false/y],
  ["operator", /==|=~|!=|!~|&&|\|\||!/y],
];

/** @returns a text: what is wrong with it */
export function parseExpression(source: string): Expression | string {
  const tokens = tokensOf(source);
  if (typeof tokens === "string") return tokens;
  if (tokens.length === 0) return "it is empty";
  let position = 0;
  const take = (...operators: readonly string[]): string | undefined => {
    const token = tokens[position];
    if (token?.kind !== "operator" || !operators.includes(token.text)) return undefined;
    position++;
    return token.text;
  };
  const chain = (next: () => Expression, ...operators: readonly Operator[]): Expression => {
    let left = next();
    for (;;) {
      const operator = operators.find((one) => take(one) !== undefined);
      if (operator === undefined) return left;
      left = pair(operator, left, next());
    }
  };
  const or = (): Expression => chain(and, "||");
  const and = (): Expression => chain(comparison, "&&");
  const comparison = (): Expression => chain(unary, "==", "!=", "=~", "!~");
  const unary = (): Expression => {
    if (take("!") !== undefined) return { kind: "not", of: unary() };
    if (take("(") !== undefined) {
      const inner = or();
      if (take(")") === undefined) throw new SyntaxError("a parenthesis is not closed");
      return inner;
    }
    const token = tokens[position++];
    if (token === undefined) throw new SyntaxError("it ends too early");
    if (token.kind === "operator") throw new SyntaxError(`a value is missing before "${token.text}"`);
    if (token.kind !== "word") return { kind: token.kind, text: token.text };
    return token.text === "null" ? { kind: "null" } : { kind: "text", text: token.text };
  };
  try {
    const whole = or();
    const rest = tokens[position];
    return rest === undefined ? whole : `"${rest.text}" stands where an operator belongs`;
  } catch (error) {
    if (error instanceof SyntaxError) return error.message;
    throw error;
  }
}

function pair(operator: Operator, left: Expression, right: Expression): Expression {
  const matching = operator === "=~" || operator === "!~";
  if (operator !== "&&" && operator !== "||" && (left.kind === "regex" || (right.kind === "regex" && !matching)))
    throw new SyntaxError("a regular expression stands only on the right of =~ and !~");
  return { kind: "pair", operator, left, right };
}

function tokensOf(source: string): Token[] | string {
  const tokens: Token[] = [];
  let offset = 0;
  for (;;) {
    while (/\s/.test(source.charAt(offset))) offset++;
    if (offset >= source.length) return tokens;
    const token = tokenAt(source, offset);
    if (token === undefined)
      return `nothing that an expression may have begins at "${source.slice(offset, offset + 20)}"`;
    if (token.kind === "regex" && patternOf(token.text) === null)
      return `${token.text} is no regular expression of RE2`;
    offset += token.length;
    tokens.push(token);
    if (tokens.length >= MOST_TOKENS) return `it has ${MOST_TOKENS} or more parts`;
  }
}

function tokenAt(source: string, offset: number): (Token & { readonly length: number }) | undefined {
  for (const [kind, form] of TOKENS) {
    form.lastIndex = offset;
    const found = form.exec(source);
    if (found !== null) return { kind, text: found[1] ?? found[2] ?? found[0], length: found[0].length };
  }
  return undefined;
}

/** `undefined` is GitLab's null. */
type Value = string | boolean | undefined;

/** Whether the rule holds: an empty text is none. */
export function holds(expression: Expression, names: Names): boolean {
  return present(evaluate(expression, names));
}

function present(value: Value): boolean {
  return typeof value === "string" ? value.trim() !== "" : value === true;
}

function evaluate(expression: Expression, names: Names): Value {
  switch (expression.kind) {
    case "variable":
      return names.variable(expression.text);
    case "input":
      return names.input?.(expression.text);
    case "text":
    case "regex":
      return expression.text;
    case "null":
      return undefined;
    case "not":
      return !present(evaluate(expression.of, names));
    case "pair":
      return evaluatePair(expression.operator, expression.left, expression.right, names);
  }
}

function evaluatePair(operator: Operator, first: Expression, second: Expression, names: Names): Value {
  const left = evaluate(first, names);
  // Operands are given back as Ruby does: there an empty text is not false.
  if (operator === "&&") return left === undefined || left === false ? left : evaluate(second, names);
  if (operator === "||") return left === undefined || left === false ? evaluate(second, names) : left;
  const right = evaluate(second, names);
  if (operator === "==") return textual(left) === textual(right);
  if (operator === "!=") return textual(left) !== textual(right);
  return matches(textual(left) ?? "", textual(right)) === (operator === "=~");
}

function textual(value: Value): string | undefined {
  return typeof value === "boolean" ? String(value) : value;
}

/** A text without slashes is no regular expression: then the left side is looked for in it. */
function matches(text: string, by: string | undefined): boolean {
  if (by === undefined) return false;
  if (!/^\/[\s\S]+\/[ismU]*$/.test(by)) return by.includes(text);
  return patternOf(by)?.matches(text) ?? false;
}
