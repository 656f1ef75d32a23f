import type { RawVariable } from "../../decide/expand.ts";
import type { Findings } from "../../read/findings.ts";
import { at, type Node, type Scalar } from "../../read/node.ts";

/** One of a job's instances. */
export interface Instance {
  readonly name: string;
  /** `null`: the job is not parallel. */
  readonly parallel: { readonly index: number; readonly total: number } | null;
  /** The variables of its row of the matrix. */
  readonly variables: readonly RawVariable[];
}

const MOST = 200;

/** The instances of a job; where two have one name, the later one stays. */
export function instancesOf(name: string, parallel: Node | undefined, findings: Findings): Instance[] {
  if (parallel === undefined) return [{ name, parallel: null, variables: [] }];
  if (parallel.kind === "scalar") {
    const total = Number(parallel.value);
    return Array.from({ length: total }, (_, index) => ({
      name: `${name} ${index + 1}/${total}`,
      parallel: { index: index + 1, total },
      variables: [],
    }));
  }
  const matrix = at(parallel, "matrix");
  const rows = matrixRows(matrix, name, findings);
  const total = rows.length;
  const byName = new Map<string, Instance>();
  for (const [index, variables] of rows.entries()) {
    const full = `${name}: [${variables.map(({ value }) => value).join(", ")}]`;
    byName.set(full, { name: full, parallel: { index: index + 1, total }, variables });
  }
  return [...byName.values()];
}

/** The product of each entry's values, in the order of its keys. */
export function matrixRows(matrix: Node | undefined, name: string, findings: Findings): RawVariable[][] {
  const entries = matrix?.kind === "list" ? matrix.items : [];
  const rows: RawVariable[][] = [];
  for (const entry of entries) {
    if (entry.kind !== "table") {
      findings.error(entry.place, `${name}: an entry of parallel:matrix must be a table`);
      continue;
    }
    let product: RawVariable[][] = [[]];
    for (const [key, { value, place }] of entry.entries) {
      const values = (value.kind === "list" ? value.items : [value]).flatMap((item): Scalar[] => {
        if (item.kind === "scalar" && isMatrixValue(item)) return [item];
        findings.error(
          item.kind === "scalar" ? item.place : place,
          `${name}: values of parallel:matrix must be texts or whole numbers: write ${item.kind === "scalar" && item.text !== "" ? `"${item.text}"` : "them"} in quotes`,
        );
        return [];
      });
      if (values.length * product.length + rows.length > MOST) {
        findings.error(place, `${name}: parallel:matrix makes more than ${MOST} jobs, which is the limit`);
        return [];
      }
      product = product.flatMap((row) => values.map(({ text }) => [...row, { key, value: text, raw: false }]));
    }
    rows.push(...product.filter((row) => row.length > 0));
  }
  if (rows.length === 0 && matrix !== undefined) findings.error(matrix.place, `${name}: parallel:matrix makes no job`);
  if (rows.length > MOST && matrix !== undefined)
    findings.error(matrix.place, `${name}: parallel:matrix makes more than ${MOST} jobs, which is the limit`);
  return rows;
}

function isMatrixValue({ value, float }: Scalar): boolean {
  return typeof value === "string" || (typeof value === "number" && !float);
}
