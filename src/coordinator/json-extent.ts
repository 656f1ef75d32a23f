import { createTurns } from "../time.ts";
import { endOfString } from "./salvage.ts";

/** Values, keys and lists of one text: parsing it takes memory and time by their number, and no job has as many. */
export const MOST_JSON_VALUES = 500_000;
export const DEEPEST_JSON = 500;
/** Looked at before there is a chance of another turn. */
const PART = 4096;

/** Looks over a JSON text before it is parsed, which happens in one turn. @returns why it is not to be parsed, if so */
export async function excessOf(text: string): Promise<string | null> {
  const turn = createTurns();
  let [values, depth] = [0, 0];
  for (let at = 0, seen = 0; at < text.length; seen++) {
    if (seen % PART === 0) await turn();
    const char = text[at];
    if (char === '"') {
      const end = endOfString(text, at);
      if (end === -1) return null; // it is cut, and will not be parsed
      at = end + 1;
      continue;
    }
    if (char === "{" || char === "[") depth++;
    else if (char === "}" || char === "]") depth--;
    else if (char === "," || char === ":") values++;
    if (depth > DEEPEST_JSON) return `it is nested deeper than ${DEEPEST_JSON} levels`;
    if (values > MOST_JSON_VALUES) return `it has more than ${MOST_JSON_VALUES} values`;
    at++;
  }
  return null;
}
