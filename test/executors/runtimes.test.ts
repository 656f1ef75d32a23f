import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const stand = join(import.meta.dirname, "stand.ts");
const bun = join(import.meta.dirname, "../../node_modules/bun/bin/bun.exe");

async function runUnder(runtime: string, file = stand): Promise<string> {
  return (await promisify(execFile)(runtime, [file], { maxBuffer: 1 << 24 })).stdout;
}

test.skipIf(!existsSync(bun))(
  "scripts run the same under Bun, which releases are built on, as under Node",
  async () => {
    const underBun = await runUnder(bun);
    expect(JSON.parse(underBun)).toMatchObject({ leaked: false, left: [], memoryBounded: true });
    expect(underBun).toContain("Error: stopped");
    expect(underBun).toContain("out\\nerr\\n");
    expect(underBun).toBe(await runUnder(process.execPath));
  },
);

test.skipIf(!existsSync(bun) || process.platform !== "linux")(
  "a signal reaches the process that was looked at: by a handle under Bun, which never means another one",
  async () => {
    const file = join(import.meta.dirname, "pidfd-stand.ts");
    const common = { sent: true, endedBy: "SIGTERM", nobody: null };
    expect(JSON.parse(await runUnder(bun, file))).toEqual({ ...common, handles: true, again: false });
    expect(JSON.parse(await runUnder(process.execPath, file))).toEqual({ ...common, handles: false, again: null });
  },
);
