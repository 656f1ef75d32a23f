import { CommandError } from "../../errors.ts";
import { bashCompletion } from "./bash.ts";
import type { ProgramShape } from "./describe.ts";
import { fishCompletion } from "./fish.ts";
import { zshCompletion } from "./zsh.ts";

/** Completions of the whole program for one shell, as a script. @throws {CommandError} no such shell */
export function completionScript(shell: string, program: ProgramShape): string {
  switch (shell) {
    case "bash":
      return bashCompletion(program);
    case "zsh":
      return zshCompletion(program);
    case "fish":
      return fishCompletion(program);
    default:
      throw new CommandError(`There are completions for bash, zsh and fish, not for "${shell}"`);
  }
}
