import { accessSync, constants, existsSync, realpathSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";

/** Brings PowerShell 7 where it is: no package archive has it. `.ci/run` calls it. */
const INSTALLER = join(import.meta.dirname, "../../../shared/pwsh/install.sh");

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Folder of the `pwsh` on PATH; `null` where there is none. */
export function pwshFolder(): string | null {
  const found = (process.env.PATH ?? "")
    .split(delimiter)
    .map((dir) => join(dir, "pwsh"))
    .find(isProgram);
  return found === undefined ? null : dirname(realpathSync(found));
}

/** Why tests with a real PowerShell are skipped; `null` where there is one. In CI, which could have it, that is a failure. */
export function pwshMissing(): string | null {
  if (pwshFolder() !== null) return null;
  if (process.env.CI === "true" && existsSync(INSTALLER)) {
    throw new Error(`no pwsh on PATH: PATH="$(${INSTALLER}):$PATH"`);
  }
  return "needs pwsh (PowerShell 7) on PATH";
}
