import { type Fields, fieldsOf, isFields } from "../coerce.ts";
import { Budget } from "./budget.ts";
import { fill, type Scope } from "./evaluate.ts";
import { ExpressionError } from "./expression-error.ts";
import { parseTemplate } from "./parse.ts";
import { readInputs } from "./read-inputs.ts";
import { textsIn } from "./value.ts";

/** A job's JSON with its inputs put in. */
export interface Interpolated {
  readonly payload: Fields;
  /** What must not show, because its author says so. */
  readonly sensitive: readonly string[];
  /** Why the job cannot run: what its author wrote makes no sense. */
  readonly problem: string | null;
}

/** The feature flag that has inputs put in or not. */
export const INPUTS_SWITCH = "FF_ENABLE_JOB_INPUTS_INTERPOLATION";

const optionsOf = { docker: { platform: true, user: true }, kubernetes: { user: true } } as const;
const image = { name: true, command: true, entrypoint: true, pull_policy: true, executor_opts: optionsOf } as const;

/** Which texts of a job may have inputs in them; `true`: all below. */
interface Where {
  readonly [name: string]: true | Where;
}
const places: Where = {
  image,
  services: image,
  artifacts: { name: true, paths: true, exclude: true, when: true, expire_in: true },
  cache: { key: true, paths: true, policy: true, when: true, fallback_keys: true },
};

/**
 * `inputs` put into a job in the places of `${{ job.inputs.name }}`. Without inputs no text is looked at: what looks like an
 * expression may be meant for somebody else.
 * @param isOn whether the entry has it so; `undefined`: the job's own variable says it
 */
export function withInputs(payload: Fields, isOn: boolean | undefined): Interpolated {
  const inputs = readInputs(payload.inputs);
  if ("problem" in inputs) return { payload, sensitive: [], problem: inputs.problem };
  const { values } = inputs;
  const sensitive = [...values.values()].flatMap((input) => (input.sensitive ? textsIn(input.value) : []));
  if (values.size === 0 || !(isOn ?? isSwitchedOn(payload.variables))) return { payload, sensitive, problem: null };
  const scope: Scope = { inputs: values, budget: new Budget() };
  try {
    const filled = Object.entries(places).map(([name, where]) => [name, within(payload[name], name, where, scope)]);
    const steps = list(payload.steps).map((step) => withStep(step, scope));
    return { payload: { ...payload, ...Object.fromEntries(filled), steps }, sensitive, problem: null };
  } catch (error) {
    if (error instanceof BadText) return { payload, sensitive, problem: error.message };
    throw error;
  }
}

class BadText extends Error {}

function isSwitchedOn(variables: unknown): boolean {
  const own = list(variables).findLast((entry) => fieldsOf(entry).key === INPUTS_SWITCH);
  const said = String(fieldsOf(own).value ?? "").trim();
  return !/^(?:0|f|false)$/i.test(said);
}

function withStep(step: unknown, scope: Scope): unknown {
  if (!isFields(step) || (step.name !== "script" && step.name !== "after_script")) return step;
  return { ...step, script: within(step.script, step.name, true, scope) };
}

function within(part: unknown, place: string, where: true | Where, scope: Scope): unknown {
  if (Array.isArray(part)) {
    return part.map((entry: unknown, index) => within(entry, `${place}[${index}]`, where, scope));
  }
  if (where === true) return typeof part === "string" ? withText(part, place, scope) : part;
  if (!isFields(part)) return part;
  const filled = Object.entries(where)
    .filter(([name]) => part[name] !== undefined)
    .map(([name, inner]) => [name, within(part[name], `${place}.${name}`, inner, scope)]);
  return { ...part, ...Object.fromEntries(filled) };
}

function withText(text: string, place: string, scope: Scope): string {
  if (!text.includes("${{")) return text;
  const failed = (reason: string): BadText => {
    const shown = JSON.stringify(text.slice(text.indexOf("${{")).slice(0, 100));
    return new BadText(`The job's inputs cannot be put into ${place} at ${shown}: ${reason}.`);
  };
  try {
    const made = fill(parseTemplate(text, scope.budget), scope);
    if (!made.sensitive) return made.text;
  } catch (error) {
    if (error instanceof ExpressionError) throw failed(error.message);
    throw error;
  }
  throw failed("an input that is marked as sensitive cannot be put into a job; use a masked variable");
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : value === null || value === undefined ? [] : [value];
}
