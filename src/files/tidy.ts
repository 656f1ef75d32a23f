/**
 * What flows through the runner is new memory for each piece under Bun, and its collector, left alone, lets much of it
 * gather. So often it is called: a collection takes 20 to 30 ms, which is a tenth of what so many bytes take.
 */
const TIDY_BYTES = 32 * 1024 * 1024;

/** `Bun.gc` drops compiled code with the garbage, or comes late; and a young collection keeps what is under way, for long. */
function findCollector(): (() => unknown) | undefined {
  // Neither in Node's types nor, under Node, there at all.
  const jsc: unknown = Reflect.apply(process.getBuiltinModule, process, ["bun:jsc"]);
  if (typeof jsc !== "object" || jsc === null) return undefined;
  const collect: unknown = Reflect.get(jsc, "fullGC");
  return typeof collect === "function" ? () => Reflect.apply(collect, jsc, []) : undefined;
}

let collector: (() => unknown) | null | undefined;
let untidyBytes = 0;

/** To be told how much has passed through, by whoever moves a lot: output of scripts, archives. Of all jobs together. */
export function tidyAfter(bytes: number): void {
  untidyBytes += bytes;
  if (untidyBytes < TIDY_BYTES) return;
  untidyBytes = 0;
  if (collector === undefined) collector = findCollector() ?? null;
  collector?.();
}
