import { never } from "../../src/time.ts";
import { openIn } from "../executors/shell-stand.ts";
import { Sink, sampleRequest, scriptOf, source } from "./executor-kit.ts";

/**
 * A process that begins a script of a job and is there to be killed: `dying-runner.ts DIR JOB-KEY TEXT [repeatable]`; prints the
 * script's place.
 */
const [dir = "", jobKey = "", text = "", kind] = process.argv.slice(2);
const executor = openIn(dir, { durable: true });
const environment = await executor.prepare({ ...sampleRequest(), jobKey }, new Sink(), never);
const keeping = {
  begins: (place: unknown) => console.log(JSON.stringify(place)),
  settled: () => 0,
  say: () => {},
  ended: async () => {},
};
const repeatable = kind === "repeatable" ? { repeatable: true as const } : {};
await environment.run({ ...scriptOf(environment, source(text)), ...repeatable, keeping }, new Sink(), never);
