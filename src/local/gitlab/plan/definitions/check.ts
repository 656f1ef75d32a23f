import type { z } from "zod";
import { kindOf, pathText, valueAt } from "../../../issue-text.ts";
import type { Findings } from "../../read/findings.ts";
import { keyPlaceOf, type Node, placeOf, plain } from "../../read/node.ts";

/**
 * Read the data of `node` by a schema whose messages are what was expected.
 * @param name what it is called in messages: `build`, `default`
 * @returns `undefined`: `findings` say what is wrong
 */
export function checked<T>(schema: z.ZodType<T>, node: Node, name: string, findings: Findings): T | undefined {
  const value = withoutNulls(plain(node));
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  report(result.error.issues, [], { node, name, value, findings });
  return undefined;
}

interface Around {
  readonly node: Node;
  readonly name: string;
  readonly value: unknown;
  readonly findings: Findings;
}

function report(issues: readonly z.core.$ZodIssue[], prefix: readonly PropertyKey[], around: Around): void {
  for (const issue of issues) {
    const path = [...prefix, ...issue.path];
    if (issue.code === "invalid_union") {
      // Of several alternatives, the one that the value comes closest to.
      const nearly = issue.errors.find((branch) =>
        branch.every((one) => one.path.length > 0 || one.code !== "invalid_type"),
      );
      if (
        nearly !== undefined &&
        nearly.length > 0 &&
        !nearly.every((one) => one.code === "invalid_value" && one.path.length === 0)
      ) {
        report(nearly, path, around);
        continue;
      }
    }
    if (issue.code === "unrecognized_keys") {
      for (const key of issue.keys) {
        const where = pathText(path);
        around.findings.error(
          keyPlaceOf(around.node, path, key),
          `${around.name}: ${where === "" ? "" : `${where} `}contains the unknown key "${key}"`,
        );
      }
      continue;
    }
    const subject = pathText(path);
    around.findings.error(
      placeOf(around.node, path),
      `${around.name}${subject === "" ? "" : `: ${subject}`} must be ${issue.message}, not ${kindOf(valueAt(around.value, path))}`,
    );
  }
}

/** A keyword without a value counts as missing. */
function withoutNulls(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== null));
}
