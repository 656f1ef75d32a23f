// Started by a test and killed at any moment: prints what it has stored, right after it is stored.
import { writeSync } from "node:fs";
import type { StoredJob } from "../../src/journal/contract.ts";
import { openJournal } from "../../src/journal/records/journal.ts";
import { openStateDir } from "../../src/journal/state/state-dir.ts";
import { never } from "../../src/time.ts";

const quiet = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };
const stateDir = await openStateDir({ path: String(process.argv[2]), log: quiet }, never);
const journal = await openJournal({ stateDir, log: quiet });

async function loop(name: string): Promise<void> {
  for (let count = 0; ; count++) {
    const id = `${process.pid}${name}${count}`;
    const stored: StoredJob = {
      key: `job-${id}`,
      id,
      token: "token",
      dialect: "alloy",
      title: "title",
      runner: {
        id: "7e3b05c2",
        name: "",
        token: "",
        url: "http://127.0.0.1:1/",
        tlsCaFile: null,
        tlsCertFile: null,
        tlsKeyFile: null,
        certsDir: "",
      },
      executor: "shell",
      knownReasons: [],
      acceptedAt: new Date().toISOString(),
      boot: journal.boot,
    };
    const record = await journal.accept(stored);
    writeSync(1, `accepted ${id}\n`);
    await record.remember({ kind: "note", id });
    writeSync(1, `noted ${id}\n`);
    if (count % 3 === 0) continue;
    await record.finish({ state: "success", reason: null, exitCode: null, at: new Date().toISOString() });
    writeSync(1, `finished ${id}\n`);
    if (count % 3 === 1) continue;
    writeSync(1, `removing ${id}\n`);
    await record.remove();
  }
}

await Promise.all([loop("a"), loop("b")]);
