/** A toleration as the API has it. */
export interface Toleration {
  readonly key?: string;
  readonly operator: "Equal" | "Exists";
  readonly value?: string;
  readonly effect?: string;
}

const EFFECTS = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/** `k=v` or `k`, and its effect; an empty key tolerates all. `null`: there is no such effect. */
export function tolerationOf(text: string, effect: string): Toleration | null {
  if (effect !== "" && !EFFECTS.includes(effect)) return null;
  const its = effect === "" ? {} : { effect };
  const split = text.indexOf("=");
  if (split < 0) return { ...(text === "" ? {} : { key: text }), operator: "Exists", ...its };
  return { key: text.slice(0, split), operator: "Equal", value: text.slice(split + 1), ...its };
}
