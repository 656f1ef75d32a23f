/**
 * What a plain (unquoted) word of YAML is for GitLab, which reads it with Ruby's Psych: neither YAML 1.1 nor 1.2. A word can
 * be a date, which GitLab refuses.
 */
export type PlainValue =
  | { readonly value: string | number | boolean | null; readonly text: string; readonly float: boolean }
  | "date";

const TIME = /^-?\d{4}-\d{1,2}-\d{1,2}(?:[Tt]|\s+)\d{1,2}:\d\d:\d\d(?:\.\d*)?(?:\s*(?:Z|[-+]\d{1,2}:?(?:\d\d)?))?$/;
const DATE = /^\d{4}-(?:1[012]|0\d|\d)-(?:[12]\d|3[01]|0\d|\d)$/;
const WORD = /^[^\d.:-]?[\p{Alphabetic}_\s!@#$%^&*(){}<>|/\\~;=]+/u;
const BASE_60 = /^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9]){1,2}(?:\.[0-9_]*)?$/;
const FLOAT = /^[-+]?(?:[0-9][0-9_,]*)?\.[0-9]*(?:[eE][+-][0-9]+)?$/;
const INTEGER =
  /^(?:[-+]?0[b_]*[01_]+|[-+]?0[_,]*[0-7_,]+|[-+]?(?:0|[1-9](?:[0-9]|,[0-9]|_[0-9])*)|[-+]?0[x_,]*[0-9a-fA-F_,]+)$/;

const ENDLESS: Readonly<Record<string, number>> = {
  ".inf": Number.POSITIVE_INFINITY,
  "-.inf": Number.NEGATIVE_INFINITY,
  ".nan": Number.NaN,
};

export function plainScalar(word: string): PlainValue {
  const asText = { value: word, text: word, float: false };
  if (word === "" || word === "~" || /^null$/i.test(word)) return { value: null, text: "", float: false };
  if (/^(?:yes|true|on)$/i.test(word)) return { value: true, text: "true", float: false };
  if (/^(?:no|false|off)$/i.test(word)) return { value: false, text: "false", float: false };
  if (WORD.test(word) || word.includes("\n")) return asText;
  const endless = ENDLESS[word.toLowerCase()];
  if (endless !== undefined) return { value: endless, text: String(endless), float: true };
  if (TIME.test(word) || DATE.test(word)) return "date";
  if (BASE_60.test(word)) return baseSixty(word);
  if (FLOAT.test(word)) {
    if (/^[-+]?\.$/.test(word)) return asText;
    const value = Number(word.replace(/[,_]|\.(?=[eE]|$)/g, ""));
    return { value, text: rubyFloat(value), float: true };
  }
  return INTEGER.test(word) ? (integer(word.replace(/[,_]/g, "")) ?? asText) : asText;
}

/** Reads `1:30` as hours and minutes, and `1:30:05` as hours, minutes and seconds; the value is in seconds. */
function baseSixty(word: string): PlainValue {
  const parts = word.replaceAll("_", "").split(":").map(Number);
  const value = parts.reduce((sum, part, index) => sum + part * 60 ** Math.abs(index - 2), 0);
  return { value, text: word.includes(".") ? rubyFloat(value) : String(value), float: word.includes(".") };
}

/** Reads an integer with Ruby's prefixes; `08` is none and stays text. */
function integer(digits: string): PlainValue | undefined {
  const [, sign = "", rest = ""] = /^([-+]?)(.*)$/.exec(digits) ?? [];
  const literal = /^0[0-7]+$/.test(rest) ? `0o${rest.slice(1)}` : rest;
  if (!/^(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0o[0-7]+|0|[1-9]\d*)$/.test(literal)) return undefined;
  const whole = BigInt(literal) * (sign === "-" ? -1n : 1n);
  return { value: Number(whole), text: whole.toString(), float: false };
}

function rubyFloat(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 1e16) return value.toFixed(1);
  return String(value).replace(/^(-?\d+)e/, "$1.0e");
}
