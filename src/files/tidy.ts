/**
 * Under Bun each piece of data that flows through the runner is new memory, and the collector, left alone, lets much of it
 * gather. It is called once for so many bytes: a collection takes 20 to 30 ms, a tenth of the time that moving them takes.
 */
const TIDY_BYTES = 32 * 1024 * 1024;

/**
 * `Bun.gc` drops compiled code with the garbage, or runs late; a collection of young objects alone keeps for long what is in
 * transit.
 */
function findCollector(): (() => unknown) | undefined {
  // The module is not in Node's types, and does not exist under Node.
  const jsc: unknown = Reflect.apply(process.getBuiltinModule, process, ["bun:jsc"]);
  if (typeof jsc !== "object" || jsc === null) return undefined;
  const collect: unknown = Reflect.get(jsc, "fullGC");
  return typeof collect === "function" ? () => Reflect.apply(collect, jsc, []) : undefined;
}

let collector: (() => unknown) | null | undefined;
let untidyBytes = 0;

/**
 * Code that moves a lot of data (output of scripts, archives) reports the bytes here; those of all jobs count together.
 */
export function tidyAfter(bytes: number): void {
  untidyBytes += bytes;
  if (untidyBytes < TIDY_BYTES) return;
  untidyBytes = 0;
  if (collector === undefined) collector = findCollector() ?? null;
  collector?.();
}

/** Memory that belongs to a piece of data on its way, and to nobody else. */
const handedOn = new WeakSet<ArrayBufferLike>();

/** Whoever is the last to have `bytes` may `drop` them. Nobody on their way keeps them, or passes them on to two others. */
export function handOn(bytes: Uint8Array): void {
  handedOn.add(bytes.buffer);
}

/**
 * Gives the memory of `bytes` back at once, as no collector does, if they were handed on and are all that is in it; `bytes` are
 * empty then. Otherwise they are left alone.
 */
export function drop({ buffer, byteLength }: Uint8Array): void {
  if (byteLength === buffer.byteLength && handedOn.delete(buffer) && buffer instanceof ArrayBuffer) buffer.transfer(0);
}
