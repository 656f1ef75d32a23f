// Started by tests: holds the state directory of its first argument until it is killed.
import { createInterface } from "node:readline";
import { describeError } from "../../src/errors.ts";
import { openStateDir } from "../../src/journal/state/state-dir.ts";
import { never } from "../../src/time.ts";

const quiet = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };
try {
  const state = await openStateDir({ path: String(process.argv[2]), log: quiet }, never);
  console.log(`held ${process.pid}`);
  for await (const _ of createInterface(process.stdin));
  await state.close();
} catch (error) {
  console.log(`refused ${describeError(error)}`);
}
