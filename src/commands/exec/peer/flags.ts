import { type Command, Option } from "commander";
import { collect, toggle } from "../../options.ts";
import { PEER_OPTIONS } from "./names.ts";

/** The options of gitlab-ci-local that `exec` has under other names, or needs not; `--help` does not show them. */
export function addPeerFlags(command: Command): void {
  const known = new Set(command.options.map(({ long }) => long));
  for (const { name, kind } of PEER_OPTIONS) {
    const flag = `--${name}`;
    if (known.has(flag)) continue;
    if (kind === "switch") {
      command.addOption(toggle(flag, "").hideHelp());
      command.addOption(new Option(`--no-${name}`).hideHelp());
      continue;
    }
    const option = new Option(`${flag} <value>`).hideHelp();
    if (kind === "list") option.argParser(collect);
    command.addOption(option);
  }
}
