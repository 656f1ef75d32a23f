import type { RawVariable } from "../../decide/expand.ts";
import type { Findings } from "../../read/findings.ts";
import { at, isNull, type Node, type Scalar } from "../../read/node.ts";
import { variableSchema } from "../schema/rules.ts";
import { checked } from "./check.ts";

/** Where variables stand decides which forms they may have. */
export type VariableForm = "root" | "job" | "plain";

/** `variables:` → values as GitLab makes text of them. */
export function readVariables(
  node: Node | undefined,
  form: VariableForm,
  name: string,
  findings: Findings,
): RawVariable[] {
  if (node === undefined || isNull(node)) return [];
  if (node.kind !== "table") {
    findings.error(node.place, `${name}: variables must be a table of names and values`);
    return [];
  }
  return [...node.entries].flatMap(([key, { value, place }]): RawVariable[] => {
    if (value.kind === "scalar") return [{ key, value: value.text, raw: false }];
    if (value.kind !== "table" || form === "plain") {
      const forms = form === "plain" ? "a text" : "a text, or a table with value and expand";
      findings.error(place, `${name}: the variable ${key} must be ${forms}`);
      return [];
    }
    const data = checked(variableSchema, value, `${name}: the variable ${key}`, findings);
    if (data === undefined) return [];
    if (form === "job" && (data.description !== undefined || data.options !== undefined))
      findings.error(place, `${name}: the variable ${key} may have only value and expand in a job`);
    const found = at(value, "value");
    const scalar: Scalar | undefined = found?.kind === "scalar" ? found : undefined;
    if (data.options !== undefined && !data.options.includes(scalar?.text ?? ""))
      findings.error(place, `${name}: value of the variable ${key} is not in its options: ${data.options.join(", ")}`);
    return [{ key, value: scalar?.text ?? "", raw: data.expand === false }];
  });
}
