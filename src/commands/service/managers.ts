import { dirname, join } from "node:path";
import { CommandError } from "../../errors.ts";
import type { Argv } from "../../shell.ts";
import type { CommandContext } from "../context.ts";
import { launchd } from "./launchd.ts";
import type { ServiceManager } from "./service.ts";
import { systemd } from "./systemd.ts";
import { windows } from "./windows.ts";

export interface ServicePlace {
  readonly platform: NodeJS.Platform;
  /** What starts this program. */
  readonly program: Argv;
}

/**
 * The manager of this platform's services.
 * @param serviceHost Windows: the program that talks to its service manager, where that is not beside this one
 * @throws {CommandError} no service manager is known here
 */
export function managerFor(
  serviceHost: string | undefined,
  { env, uid, cwd }: CommandContext,
  { platform, program }: ServicePlace,
): ServiceManager {
  const home = env.HOME ?? "";
  switch (platform) {
    case "linux":
      return systemd({
        userConfigDir: env.XDG_CONFIG_HOME?.startsWith("/") ? env.XDG_CONFIG_HOME : join(home, ".config"),
      });
    case "darwin":
      return launchd({ home, uid: uid ?? 0 });
    case "win32": {
      const host = serviceHost ?? join(dirname(program[0] ?? ""), "alloy-runner-service.exe");
      return windows({
        host: serviceHost === undefined ? host : join(cwd, serviceHost),
        programData: env.ProgramData ?? "C:\\ProgramData",
      });
    }
    default:
      throw new CommandError(
        `Services on ${platform} are not known to this program. Let your service manager run: alloy-runner run --user ACCOUNT --working-directory DIR (SIGQUIT drains, SIGTERM stops)`,
      );
  }
}
