import type { Findings } from "../read/findings.ts";
import { at, isNull, type Node, textOf } from "../read/node.ts";
import { changesHold, expressionAt, type PipelineCase } from "./case.ts";
import type { Lookup } from "./expand.ts";
import { holds } from "./expression.ts";
import { patternOf } from "./regex.ts";

/** Words for sources that `only` knows besides the source itself with or without its plural. */
const DEFAULT_REFS = ["branches", "tags"];

/** `only` and `except` of a job without rules. @returns why it is not in the pipeline; `null`: it is */
export function onlyDecides(
  job: Node,
  around: PipelineCase,
  options: { readonly lookup: Lookup; readonly defaultOnly: boolean; readonly findings: Findings },
): string | null {
  const only = at(job, "only");
  const except = at(job, "except");
  const given = only !== undefined && !isNull(only);
  if (given && !policy(only, around, options, options.defaultOnly).every(Boolean)) return "only does not fit";
  if (!given && options.defaultOnly && !DEFAULT_REFS.some((ref) => refFits(ref, around)))
    return `without only and rules it is for branches and tags`;
  if (except !== undefined && !isNull(except) && policy(except, around, options, false).some(Boolean))
    return "except fits";
  return null;
}

/** What each key of the policy says. */
function policy(
  node: Node,
  around: PipelineCase,
  { lookup, findings }: { readonly lookup: Lookup; readonly findings: Findings },
  defaultRefs: boolean,
): boolean[] {
  if (node.kind !== "table") return [textsOf(node).some((ref) => refFits(ref, around))];
  const said: boolean[] = [];
  const refs = at(node, "refs");
  if (refs !== undefined && !isNull(refs)) said.push(textsOf(refs).some((ref) => refFits(ref, around)));
  else if (defaultRefs) said.push(DEFAULT_REFS.some((ref) => refFits(ref, around)));
  const variables = at(node, "variables");
  if (variables?.kind === "list")
    said.push(
      variables.items.some((item) => {
        const expression = expressionAt(item, findings);
        return expression !== undefined && holds(expression, { variable: lookup });
      }),
    );
  const changes = at(node, "changes");
  if (changes !== undefined && !isNull(changes)) said.push(changesHold(changes, around, lookup, findings));
  // This machine has no cluster of the project.
  if (at(node, "kubernetes") !== undefined) said.push(false);
  return said;
}

function textsOf(node: Node): string[] {
  const items = node.kind === "list" ? node.items : [node];
  return items.flatMap((item) => textOf(item) ?? []);
}

function refFits(written: string, { ref, refType, source, project }: PipelineCase): boolean {
  const split = /^(.+)@([^@/]+\/[^@]+)$/.exec(written);
  if (split !== null && !/^\/.*\/[a-z]*$/.test(written) && split[2]?.toLowerCase() !== project.toLowerCase())
    return false;
  const word = split === null || /^\/.*\/[a-z]*$/.test(written) ? written : (split[1] ?? written);
  if (word === "branches") return refType === "branch";
  if (word === "tags") return refType === "tag";
  const own = source.replace(/_event$/, "");
  if ([source, own, `${own}s`, `${own}es`].includes(word)) return true;
  if (refType === "merge_request") return false;
  if (word.startsWith("/")) return patternOf(word)?.matches(ref) ?? false;
  return word === ref;
}
