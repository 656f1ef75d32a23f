import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Writable } from "node:stream";
import { afterAll, beforeAll } from "vitest";
import { driverCommands } from "../../executors/custom/channel/channel.ts";
import { customSettings, customTable } from "../../executors/custom/settings.ts";
import { probeTools, remoteFiles } from "../../executors/remote/index.ts";
import { never } from "../../src/time.ts";
import { workspaceContract } from "../contract/workspace.ts";
import { type CustomStand, openCustomStand } from "./custom-stand.ts";

let stand: CustomStand;
beforeAll(() => {
  stand = openCustomStand();
});
afterAll(() => stand.close());

/** Ways in which drivers hand scripts over. */
const drivers = [
  ["a file run by its name", `"$1"`],
  ["dash that reads the script on stdin", `dash -s <"$1"`],
  [
    "a shell whose stdin does not end, behind a terminal's line ends",
    `rm -f in; mkfifo in; exec 8<>in; cat "$1" >&8 & bash <&8 | sed 's/$/\\r/'`,
  ],
  ["words of its own before and after", `echo "connecting"; bash "$1"; echo "bye"`],
] as const;

for (const [name, text] of drivers) {
  workspaceContract(`custom, ${name}`, {
    async open(place) {
      const dir = join(stand.dir, "job");
      mkdirSync(dir, { recursive: true });
      const program = stand.program(`driver-${drivers.findIndex(([each]) => each === name)}`, text);
      const settings = customSettings(customTable.parse({ run_exec: program }));
      const commands = driverCommands({
        host: {
          dir,
          workingDirectory: dir,
          environment: { PATH: process.env.PATH ?? "" },
          limits: settings,
          stopGraceMs: 1000,
        },
        program: settings.run,
        shell: "bash",
        stage: () => "upload_artifacts_on_success",
        notes: new Writable({ write: (_chunk, _encoding, done) => done() }),
        tmpDir: place.tmpDir,
      });
      return remoteFiles(commands, { ...place, tools: await probeTools(commands, never) });
    },
  });
}
