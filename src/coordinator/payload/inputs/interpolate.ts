import type { FilledInputs } from "../../../job/job.ts";
import { type Fields, fieldsOf, isFields } from "../coerce.ts";
import { Budget } from "./budget.ts";
import { fill, type Scope } from "./evaluate.ts";
import { ExpressionError } from "./expression-error.ts";
import { parseTemplate, type Template } from "./parse.ts";
import { readInputs } from "./read-inputs.ts";
import { textsIn } from "./value.ts";

/** A job's JSON with its inputs put in. */
export interface Interpolated {
  readonly payload: Fields;
  /** What must not show, because its author says so. */
  readonly sensitive: readonly string[];
  /** Why the job cannot run: what its author wrote makes no sense. */
  readonly problem: string | null;
  /** Absent: no text was looked at. */
  readonly filled?: FilledInputs;
}

/** The feature flag that has inputs put in or not. */
export const INPUTS_SWITCH = "FF_ENABLE_JOB_INPUTS_INTERPOLATION";

/** What an entry says of that flag. */
export interface InputsSwitch {
  /** `[runners.feature_flags]`, which wins over the job's variable. */
  readonly entry?: boolean | undefined;
  /** `environment`, over which that one wins. */
  readonly environment?: string | undefined;
}

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
 */
export function withInputs(payload: Fields, said: InputsSwitch = {}): Interpolated {
  const inputs = readInputs(payload.inputs);
  if ("problem" in inputs) return { payload, sensitive: [], problem: inputs.problem };
  const { values } = inputs;
  const sensitive = [...values.values()].flatMap((input) => (input.sensitive ? textsIn(input.value) : []));
  if (values.size === 0 || !isOn(said, payload.variables)) return { payload, sensitive, problem: null };
  const scope: Filling = { inputs: values, budget: new Budget(), texts: 0 };
  try {
    const filled = Object.entries(places).map(([name, where]) => [name, within(payload[name], name, where, scope)]);
    const steps = list(payload.steps).map((step) => withStep(step, scope));
    const made = { ...payload, ...Object.fromEntries(filled), steps };
    return { payload: made, sensitive, problem: null, filled: { texts: scope.texts } };
  } catch (error) {
    if (!(error instanceof BadText)) throw error;
    return { payload, sensitive, problem: error.message, filled: { texts: scope.texts, failure: error.failure } };
  }
}

interface Filling extends Scope {
  /** Those with an expression, so far. */
  texts: number;
}

type Failure = NonNullable<FilledInputs["failure"]>;

class BadText extends Error {
  readonly failure: Failure;
  constructor(message: string, failure: Failure) {
    super(message);
    this.failure = failure;
  }
}

function isOn({ entry, environment }: InputsSwitch, variables: unknown): boolean {
  const own = list(variables).findLast((variable) => fieldsOf(variable).key === INPUTS_SWITCH);
  return entry ?? switchOf(fieldsOf(own).value) ?? switchOf(environment) ?? true;
}

/** `undefined`: neither true nor false, and so not set. */
function switchOf(value: unknown): boolean | undefined {
  const word = String(value ?? "").trim();
  if (/^(?:1|t|true)$/i.test(word)) return true;
  return /^(?:0|f|false)$/i.test(word) ? false : undefined;
}

function withStep(step: unknown, scope: Filling): unknown {
  if (!isFields(step) || (step.name !== "script" && step.name !== "after_script")) return step;
  return { ...step, script: within(step.script, step.name, true, scope) };
}

function within(part: unknown, place: string, where: true | Where, scope: Filling): unknown {
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

function withText(text: string, place: string, scope: Filling): string {
  if (!text.includes("${{")) return text;
  const failed = (reason: string, failure: Failure): BadText => {
    const shown = JSON.stringify(text.slice(text.indexOf("${{")).slice(0, 100));
    return new BadText(`The job's inputs cannot be put into ${place} at ${shown}: ${reason}.`, failure);
  };
  const orFail = <T>(failure: Failure, make: () => T): T => {
    try {
      return make();
    } catch (error) {
      if (error instanceof ExpressionError) throw failed(error.message, failure);
      throw error;
    }
  };
  const template: Template = orFail("parse", () => parseTemplate(text, scope.budget));
  if (template.some((part) => typeof part !== "string")) scope.texts++;
  const made = orFail("evaluation", () => fill(template, scope));
  if (!made.sensitive) return made.text;
  const advice = "an input that is marked as sensitive cannot be put into a job; use a masked variable";
  throw failed(advice, "sensitive_unsupported");
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : value === null || value === undefined ? [] : [value];
}
