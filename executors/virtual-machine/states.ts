import { SystemFailure } from "../../src/errors.ts";
import { deadline, pause } from "../../src/time.ts";
import type { Machine } from "./hypervisor.ts";
import { type Call, QUICK_MS, type Tool } from "./tool.ts";

/** How a hypervisor is asked for a machine, and which of its answer's words is the state. */
export interface States<Found> {
  /** `null`: there is no such machine. */
  find(machine: Machine, signal: AbortSignal): Promise<Found | null>;
  stateOf(found: Found): string;
}

const LOOK_MS = 250;

/** Waits until the machine is in a state that `done` knows, or gone. */
export async function settled<Found>(
  { find, stateOf }: States<Found>,
  machine: Machine,
  { done, task }: { readonly done: (state: string) => boolean; readonly task: string },
  signal: AbortSignal,
): Promise<Found | null> {
  let state = "";
  const tooLong = new Error("it takes too long");
  using limit = deadline(signal, QUICK_MS, tooLong);
  try {
    for (;;) {
      const found = await find(machine, limit.signal);
      if (found === null || done(stateOf(found))) return found;
      state = stateOf(found);
      await pause(LOOK_MS, limit.signal);
    }
  } catch (error) {
    if (error !== tooLong) throw error;
    throw new SystemFailure(
      `Cannot ${task} the virtual machine "${machine.name}": it is ${state} after ${QUICK_MS / 1000} s`,
      { retry: true },
    );
  }
}

/**
 * Switches a machine off at once, and waits until it is off.
 * @param args of the call that does so
 */
export async function switchOff<Found>(
  { tool, isOff, ...states }: States<Found> & { readonly tool: Tool; readonly isOff: (state: string) => boolean },
  machine: Machine,
  args: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const { find, stateOf } = states;
  const runs = async (): Promise<boolean> => {
    const found = await find(machine, signal);
    return found !== null && !isOff(stateOf(found));
  };
  if (!(await runs())) return;
  const call: Call = {
    args,
    task: `switch off the virtual machine "${machine.name}"`,
    limitMs: QUICK_MS,
    advice: "Switch it off by hand",
  };
  const answer = await tool.ask(call, signal);
  // The machine may have gone off by itself meanwhile.
  if (answer.code !== 0 && (await runs())) throw tool.failure(call, answer);
  await settled(states, machine, { done: isOff, task: "switch off" }, signal);
}

/** The version of a hypervisor's program: what `pattern` finds, as warnings may come before it. */
export async function versionOf(tool: Tool, title: string, pattern: RegExp, signal: AbortSignal): Promise<string> {
  const call: Call = {
    args: ["--version"],
    task: `use ${title}`,
    limitMs: QUICK_MS,
    advice: `See whether ${title} works for the account that the runner runs as`,
  };
  const version = pattern.exec(await tool.run(call, signal))?.[0];
  if (version === undefined) throw tool.nonsense(call);
  return version;
}
