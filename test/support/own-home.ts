import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * Tests run with an empty home directory. Scripts of jobs are login shells: the profiles of whoever runs the tests would be read
 * by thousands of them, and a version manager in there that was once killed at its lock makes each of them wait for a minute.
 */
export default function setup(): () => void {
  const home = mkdtempSync(join(tmpdir(), "alloy-home-"));
  process.env.HOME = home;
  return () => rmSync(home, { recursive: true, force: true });
}
