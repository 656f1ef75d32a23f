// Started by a test and killed at any moment: puts a script's output, which lies in a file, into a trace, from where an earlier
// process was. The runner says something after each MiB of it.
import { existsSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { checkpointOf, resumeFrom } from "../../src/job/life/stages/position.ts";
import { createProofFilter } from "../../src/job/life/stages/proof.ts";
import { openCheckpoints, readCheckpoint } from "../../src/journal/live/checkpoint.ts";
import { openLife, readLife } from "../../src/journal/live/life.ts";
import type { TracePosition } from "../../src/trace/contract.ts";
import { openTrace } from "../../src/trace/trace.ts";

const [dir = "", proof = "", ...secrets] = process.argv.slice(2);
const MIB = 1024 * 1024;
const PART = MIB / 4;
const file = (name: string): Buffer => (existsSync(join(dir, name)) ? readFileSync(join(dir, name)) : Buffer.alloc(0));
const raw = file("raw");
const checkpoint = readCheckpoint(file("at"));
const read = readLife(file("life"));
const known = "entries" in read ? read : { entries: [], length: 0 };
const start = checkpoint === null ? { raw: 0, line: null } : resumeFrom(checkpoint);
const life = openLife(join(dir, "life"), "2.0.0", known.length);
const checkpoints = openCheckpoints(join(dir, "at"), checkpoint?.seq);
const note = (position: TracePosition): void => {
  checkpoints.write(checkpointOf(script, position));
};
const lines = known.entries.flatMap((entry) =>
  entry.kind === "own" ? { at: entry.at, bytes: Buffer.from(entry.text) } : [],
);

const trace = await openTrace({
  path: join(dir, "trace"),
  secrets,
  secretPrefixes: [],
  limitBytes: 1e9,
  sections: false,
  keeper: {
    line: (at, bytes) => life.append({ kind: "own", at, text: bytes.toString() }),
    reached: note,
  },
  resume: {
    position: checkpoint?.trace ?? {
      spool: 0,
      lineStart: true,
      limit: { beyond: 0, reached: false },
      chain: { at: 0, behind: 0, character: 0, mask: { behind: 0, covered: 0, word: "none", url: "none" } },
      stamps: null,
    },
    lines,
  },
});
const filter = createProofFilter(proof, trace.output, { from: start });
const script = { number: 1, from: 0, line: () => filter.line };
writeSync(1, `from ${start.raw}\n`);

for (let at = start.raw; at < raw.length; ) {
  const end = Math.min(at + 1 + Math.floor(Math.random() * 100_000), raw.length, (Math.floor(at / MIB) + 1) * MIB);
  await new Promise<void>((resolve) => filter.input.write(raw.subarray(at, end), () => resolve()));
  if (Math.floor(end / PART) > Math.floor(at / PART)) writeSync(1, "came\n");
  at = end;
  if (at % MIB === 0 && at / MIB > lines.length) trace.print(`${at / MIB} MiB`);
}
await filter.close();
await trace.close();
writeSync(1, "done\n");
