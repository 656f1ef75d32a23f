import { randomBytes } from "node:crypto";
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { SystemFailure } from "../../src/errors.ts";

/**
 * What stands for this state directory at a daemon or in a cluster that several runners may use: random, kept in `file`.
 * Nothing about machine or path would do: containers made from one image have all that in common.
 * @throws {SystemFailure} it can be neither read nor written
 */
export async function installationId(file: string): Promise<string> {
  const read = async (): Promise<string | null> => {
    const text = await readFile(file, "utf8").catch(() => "");
    return /^[0-9a-f]{16}\n$/.test(text) ? text.trim() : null;
  };
  const known = await read();
  if (known !== null) return known;
  const fresh = randomBytes(8).toString("hex");
  try {
    await writeFile(file, `${fresh}\n`, { mode: 0o600, flag: "wx" });
    return fresh;
  } catch (cause) {
    const other = await read();
    if (other !== null) return other;
    throw new SystemFailure(`Cannot write ${file}`, { cause, retry: true });
  }
}

/** Another name in place of `known`, which turned out to be another directory's; unless somebody has changed it already. */
export async function renewInstallationId(file: string, known: string): Promise<void> {
  if ((await installationId(file)) !== known) return;
  const fresh = `${file}.new`;
  await rm(fresh, { force: true });
  await installationId(fresh);
  await rename(fresh, file);
}
