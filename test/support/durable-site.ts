import { randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { openSite, type Site, type SiteOptions } from "./site.ts";

/** What a trace says of each time that another process has taken its job over. */
export const AWAY =
  /(?<=^|\n|\r\x1b\[0K)(?:(?!\r\x1b\[0K)[^\n])*The runner was restarted \(away for \d+\.\d s\); the job went on and is followed again[^\n]*\n/g;

/** A site whose jobs are durable, with a key of its own, as `/run` of a container may lie on a disk. It ends with the test. */
export async function openDurableSite({ global = "", entry = "", ...options }: SiteOptions): Promise<Site> {
  const keyDir = mkdtempSync(join(tmpdir(), "alloy-live-key-"));
  onTestFinished(() => rmSync(keyDir, { recursive: true }));
  const keyFile = join(keyDir, "key");
  writeFileSync(keyFile, randomBytes(32), { mode: 0o600 });
  const site = await openSite({
    ...options,
    global: `check_interval = 1\nlog_level = "debug"\nlive_key_file = "${keyFile}"\n${global}`,
    entry: `durable = true\n${entry}`,
  });
  onTestFinished(() => site.close());
  return site;
}

export async function crash({ runner }: Site): Promise<void> {
  runner.child.kill("SIGKILL");
  await runner.exit;
}

/** What is said of a process that was killed for want of memory, be it of another test. */
const MEMORY_NOTE = /[^\n]*Out of memory: the kernel killed a process on this machine[^\n]*\n/g;

/** A trace without what differs from run to run: a line that is said between two marks of sections begins anew. */
export function steady(trace: string): string {
  return trace
    .replace(AWAY, "")
    .replace(MEMORY_NOTE, "")
    .replace(/section_(start|end):\d+:(\w+\r\x1b\[0K)\n?/g, "section_$1:0:$2\n")
    .replace(/(Used|Took) .*/g, "used");
}

/** All files below these directories in which one of `texts` stands. */
export function filesWith(dirs: readonly string[], texts: readonly string[]): string[] {
  const found: string[] = [];
  for (const dir of dirs) {
    let names: string[] = [];
    try {
      names = readdirSync(dir, { recursive: true, encoding: "utf8" });
    } catch {
      continue; // it is not there, or gone by now
    }
    for (const name of names) {
      const path = join(dir, name);
      try {
        if (!statSync(path).isFile()) continue;
        const content = readFileSync(path, "latin1");
        if (texts.some((text) => content.includes(text))) found.push(path);
      } catch {
        // Gone by now.
      }
    }
  }
  return found;
}
