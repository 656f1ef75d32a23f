import type { Budget } from "./budget.ts";
import { ExpressionError } from "./expression-error.ts";
import type { Expression, Template } from "./parse.ts";
import { compare, isArray, isObject, isTruthy, type Known, kindOf, textOf, type Value } from "./value.ts";

/** What expressions of a job see, and what they may still cost together. */
export interface Scope {
  /** `job.inputs`, the only name there is. */
  readonly inputs: ReadonlyMap<string, Known>;
  readonly budget: Budget;
}

/** What a name stands for before it has come to an input. */
const JOB = Symbol("job");
const INPUTS = Symbol("job.inputs");
type Found = Known | typeof JOB | typeof INPUTS;

/** @throws {ExpressionError} */
export function evaluate(expression: Expression, scope: Scope): Known {
  return known(find(expression, scope));
}

/**
 * The text with the values of its expressions in place.
 * @throws {ExpressionError}
 */
export function fill(template: Template, scope: Scope): { readonly text: string; readonly sensitive: boolean } {
  let text = "";
  let sensitive = false;
  for (const part of template) {
    if (typeof part === "string") text += part;
    else {
      const made = evaluate(part.expression, scope);
      text += scope.budget.make(textOf(made.value, scope.budget));
      sensitive ||= made.sensitive;
    }
  }
  return { text, sensitive };
}

function known(found: Found): Known {
  if (typeof found === "symbol") throw new ExpressionError("only single inputs can be used, as in job.inputs.name");
  return found;
}

function find(expression: Expression, scope: Scope): Found {
  switch (expression.is) {
    case "literal":
      return { value: expression.value, sensitive: false };
    case "text": {
      const { text, sensitive } = fill(expression.parts, scope);
      return { value: text, sensitive };
    }
    case "name":
      if (expression.name === "job") return JOB;
      throw new ExpressionError(`"${expression.name}" is not known; only job.inputs is`);
    case "call":
      return call(
        expression.name,
        expression.of.map((part) => evaluate(part, scope)),
        scope,
      );
    case "list": {
      const items = expression.items.map((part) => evaluate(part, scope));
      return { value: items.map(({ value }) => value), sensitive: items.some((item) => item.sensitive) };
    }
    case "object": {
      const entries = expression.entries.map(([key, value]) => [evaluate(key, scope), evaluate(value, scope)] as const);
      const table = new Map(entries.map(([key, { value }]) => [textFor("a key", key.value), value]));
      return { value: table, sensitive: entries.some(([key, value]) => key.sensitive || value.sensitive) };
    }
    case "member":
      return member(find(expression.of, scope), evaluate(expression.at, scope), scope);
    case "unary":
      return unary(expression.operator, evaluate(expression.of, scope));
    case "binary": {
      const left = evaluate(expression.left, scope);
      const { operator } = expression;
      // The other side of these counts only where the first one does not decide.
      if (operator === "&&" || operator === "||") {
        if (isTruthy(left.value) === (operator === "||")) return left;
        const { value, sensitive } = evaluate(expression.right, scope);
        return { value, sensitive: sensitive || left.sensitive };
      }
      const right = evaluate(expression.right, scope);
      return {
        value: binary(operator, left.value, right.value, scope),
        sensitive: left.sensitive || right.sensitive,
      };
    }
  }
}

function member(of: Found, key: Known, scope: Scope): Found {
  const { value: at, sensitive } = key;
  if (of === JOB) {
    if (at === "inputs") return INPUTS;
    throw new ExpressionError("of job, only job.inputs is known");
  }
  if (of === INPUTS) {
    const input = scope.inputs.get(textFor("the name of an input", at));
    if (input === undefined) throw new ExpressionError(`the job has no input ${quoted(key, scope)}`);
    return input;
  }
  const { value } = of;
  const found =
    isArray(value) && typeof at === "number"
      ? value[at]
      : isObject(value) && typeof at === "string"
        ? value.get(at)
        : undefined;
  if (found !== undefined) return { value: found, sensitive: of.sensitive || sensitive };
  if (!isArray(value) && !isObject(value)) throw new ExpressionError(`a ${kindOf(value)} has no ${quoted(key, scope)}`);
  throw new ExpressionError(`the ${kindOf(value)} has no ${quoted(key, scope)}`);
}

function call(name: string, args: readonly Known[], { budget }: Scope): Known {
  const [first] = args;
  if (!["str", "num", "bool"].includes(name)) throw new ExpressionError(`there is no function "${name}"`);
  if (first === undefined || args.length > 1) throw new ExpressionError(`${name}() takes one value`);
  const { value, sensitive } = first;
  if (name === "str") return { value: textOf(value, budget), sensitive };
  if (name === "bool") return { value: isTruthy(value), sensitive };
  if (typeof value === "number") return first;
  if (typeof value === "string") budget.read(value.length);
  if (typeof value === "string" && /^[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/.test(value))
    return { value: Number(value), sensitive };
  throw new ExpressionError("num() takes text that is a number");
}

function unary(operator: string, { value, sensitive }: Known): Known {
  if (operator === "!") return { value: !isTruthy(value), sensitive };
  if (typeof value !== "number") throw new ExpressionError(`${operator} takes a number, found ${kindOf(value)}`);
  return { value: operator === "-" ? -value : value, sensitive };
}

function binary(operator: string, left: Value, right: Value, { budget }: Scope): Value {
  switch (operator) {
    case "==":
      return compare(left, right, budget) === 0;
    case "!=":
      return compare(left, right, budget) !== 0;
    case "<":
      return compare(left, right, budget) < 0;
    case "<=":
      return compare(left, right, budget) <= 0;
    case ">":
      return compare(left, right, budget) > 0;
    case ">=":
      return compare(left, right, budget) >= 0;
  }
  if (operator === "+" && typeof left === "string" && typeof right === "string") return budget.make(left + right);
  if (typeof left !== "number" || typeof right !== "number") {
    throw new ExpressionError(`${operator} cannot take ${kindOf(left)} and ${kindOf(right)} together`);
  }
  return arithmetic(operator, left, right);
}

function arithmetic(operator: string, left: number, right: number): number {
  if (operator === "+") return left + right;
  if (operator === "-") return left - right;
  if (operator === "*") return left * right;
  if (right === 0 || (operator === "%" && Math.trunc(right) === 0)) throw new ExpressionError("division by zero");
  return operator === "/" ? left / right : Math.trunc(left) % Math.trunc(right);
}

function textFor(what: string, value: Value): string {
  if (typeof value === "string") return value;
  throw new ExpressionError(`${what} must be text, found ${kindOf(value)}`);
}

function quoted({ value: at, sensitive }: Known, { budget }: Scope): string {
  if (sensitive) return "such member";
  return typeof at === "string" ? JSON.stringify(at.slice(0, 100)) : textOf(at, budget).slice(0, 100);
}
