import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { delimiter, isAbsolute, resolve } from "node:path";
import { errorCode } from "./error-code.ts";

export interface ProgramPlaces {
  /** `PATH`, and on Windows `PATHEXT`. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Base of relative paths. */
  readonly workingDirectory: string;
}

/** Where a program is that is named by its path, or by a name that is looked for in `PATH`; or why it cannot be started. */
export async function findProgram(
  program: string,
  { env, workingDirectory }: ProgramPlaces,
): Promise<{ readonly path: string } | { readonly problem: string }> {
  const windows = process.platform === "win32";
  const endings = windows ? ["", ...(env.PATHEXT ?? ".COM;.EXE;.BAT;.CMD").split(";")] : [""];
  const named = !(program.includes("/") || (windows && program.includes("\\")));
  const bases = named
    ? (env.PATH ?? env.Path ?? "").split(delimiter).filter((dir) => isAbsolute(dir))
    : [workingDirectory];
  let problem = named ? `the program ${JSON.stringify(program)} is not in PATH` : "";
  for (const base of bases) {
    for (const ending of endings) {
      const path = resolve(base, program + ending);
      const code = await access(path, constants.X_OK).then(
        async () => ((await stat(path)).isFile() ? null : "not a file"),
        errorCode,
      );
      if (code === null) return { path };
      if (code === "EACCES" || !named) problem = `the program ${path} cannot be started (${code})`;
    }
  }
  return { problem: `${problem}. Install it, make it executable, or correct its path` };
}

/** Why it cannot be started, or null. */
export async function missingProgram(program: string, places: ProgramPlaces): Promise<string | null> {
  const found = await findProgram(program, places);
  return "problem" in found ? found.problem : null;
}
