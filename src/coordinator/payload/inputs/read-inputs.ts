import { fieldsOf, isFields } from "../coerce.ts";
import { ExpressionError } from "./expression-error.ts";
import { fromJson, type Known, kindOf, type Value } from "./value.ts";

/** `type` of an input → what its content must be. */
const kinds = { string: "string", number: "number", boolean: "boolean", array: "array", struct: "object" } as const;

const MOST_INPUTS = 1000;

/** `inputs` of a job's JSON: its inputs by name, or what is wrong with them. */
export function readInputs(
  given: unknown,
): { readonly values: ReadonlyMap<string, Known> } | { readonly problem: string } {
  if (given === null || given === undefined) return { values: new Map() };
  if (!Array.isArray(given)) return { problem: "The inputs of this job are not a list." };
  if (given.length > MOST_INPUTS) return { problem: `This job has more than ${MOST_INPUTS} inputs.` };
  const values = new Map<string, Known>();
  for (const entry of given.map(fieldsOf)) {
    const { key, value } = entry;
    if (typeof key !== "string" || key === "") return { problem: "An input of this job has no key." };
    const name = JSON.stringify(key.slice(0, 100));
    const { type, content, sensitive } = fieldsOf(value);
    if (!isFields(value) || content === null || content === undefined) {
      return { problem: `The input ${name} of this job has no content.` };
    }
    if (type === undefined || type === null) return { problem: `The input ${name} of this job has no type.` };
    const kind = Object.entries(kinds).find(([word]) => word === type)?.[1];
    if (kind === undefined) return { problem: `The input ${name} of this job is of an unknown type.` };
    const read = readContent(content, kind);
    if (read === null || kindOf(read) !== kind) {
      return { problem: `The content of the input ${name} of this job is not of its type, ${String(type)}.` };
    }
    values.set(key, { value: read, sensitive: sensitive === true });
  }
  return { values };
}

function readContent(content: unknown, kind: string): Value {
  // Numbers that JavaScript writes in another way have arrived as their text.
  if (kind === "number" && typeof content === "string" && /^-?\d[\d.eE+-]*$/.test(content)) return Number(content);
  try {
    return fromJson(content);
  } catch (error) {
    if (error instanceof ExpressionError) return null;
    throw error;
  }
}
