import { readFile } from "node:fs/promises";
import { describeError } from "../../errors.ts";
import type { Log } from "../../log.ts";

/** What a machine can be short of, as the kernel says under /proc/pressure. */
export type Resource = "memory" | "cpu";

export interface Pressed {
  readonly of: Resource;
  /** Of the last 10 s, how much some of the work waited for it. */
  readonly percent: number;
  readonly most: number;
}

export interface PressureOptions {
  /** Percent; `null`: any. Asked at each look, so that a reload takes effect. */
  readonly limits: () => Readonly<Record<Resource, number | null>>;
  readonly log: Log;
  /** Where the kernel's files are. */
  readonly dir?: string;
  /** How long a look is good for. */
  readonly maxAgeMs?: number;
}

/** What is too much has to fall to this share of the limit before it counts as over. */
const RELIEF = 0.8;
const RESOURCES: readonly Resource[] = ["memory", "cpu"];

/** Is the machine short of memory or processors? Says so in the log, once, and once when that is over. */
export function watchPressure({ limits, log, dir = "/proc/pressure", maxAgeMs = 1000 }: PressureOptions) {
  const pressed = new Set<Resource>();
  let blind = false;
  let last: { readonly at: number; readonly answer: Promise<Pressed | null> } | undefined;

  const lookAt = async (of: Resource, most: number): Promise<Pressed | null> => {
    const percent = percentOf(await readFile(`${dir}/${of}`, "utf8"));
    const much = percent >= (pressed.has(of) ? most * RELIEF : most);
    if (much !== pressed.has(of)) {
      if (much) pressed.add(of);
      else pressed.delete(of);
      if (much) log.warn(`the machine is short of ${of}: no job is asked for until that is over`, { percent, most });
      else log.info(`the machine has enough ${of} again: asking for jobs`, { percent });
    }
    return much ? { of, percent, most } : null;
  };

  const look = async (): Promise<Pressed | null> => {
    const wanted = limits();
    for (const of of RESOURCES) {
      const most = wanted[of];
      if (most === null) {
        pressed.delete(of);
        continue;
      }
      try {
        const found = await lookAt(of, most);
        if (found !== null) return found;
      } catch (error) {
        // A kernel without it, or another system.
        if (!blind) log.warn("the pressure on this machine cannot be read", { problem: describeError(error) });
        blind = true;
      }
    }
    return null;
  };

  return async (): Promise<Pressed | null> => {
    const now = performance.now();
    if (last === undefined || now - last.at > maxAgeMs) last = { at: now, answer: look() };
    return await last.answer;
  };
}

/** @throws {Error} it is not what the kernel writes */
function percentOf(text: string): number {
  const [, percent] = /^some avg10=(\d+(?:\.\d+)?) /m.exec(text) ?? [];
  if (percent === undefined) throw new Error("it is not in the kernel's words");
  return Number(percent);
}
