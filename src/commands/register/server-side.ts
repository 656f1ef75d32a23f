import type { Registration } from "../../coordinator/registration.ts";
import { CommandError } from "../../errors.ts";
import { attributeOf, type FlagValues, textOf } from "./runner-flags.ts";

/** What belongs to a runner at its coordinator, not to its entry here. */

const ACCESS_LEVELS = ["not_protected", "ref_protected"] as const;

/** The flags of this kind that somebody has given. `--locked` is what a registration asks for anyway. */
export function serverSideFlags(values: FlagValues): readonly string[] {
  const texts = ["tag-list", "access-level", "maximum-timeout", "maintenance-note"];
  const switches = ["run-untagged", "paused"];
  return [
    ...texts.filter((flag) => textOf(values, flag) !== undefined),
    ...switches.filter((flag) => values[attributeOf(flag)] === true),
    ...(values.locked === false ? ["locked"] : []),
  ].map((flag) => `--${flag}`);
}

/** @throws {CommandError} a flag with a value that no coordinator takes */
export function readServerSide(
  values: FlagValues,
): Pick<Registration, "accessLevel" | "maximumTimeoutSeconds" | "paused" | "maintenanceNote"> {
  const level = textOf(values, "access-level");
  const accessLevel = ACCESS_LEVELS.find((known) => known === level);
  if (level !== undefined && accessLevel === undefined)
    throw new CommandError(`--access-level must be ${ACCESS_LEVELS.join(" or ")}, not "${level}"`);
  const seconds = textOf(values, "maximum-timeout");
  if (seconds !== undefined && !/^\d{1,9}$/.test(seconds))
    throw new CommandError(`--maximum-timeout must be a whole number of seconds, not "${seconds}"`);
  const maintenanceNote = textOf(values, "maintenance-note");
  return {
    ...(accessLevel === undefined ? {} : { accessLevel }),
    ...(seconds === undefined ? {} : { maximumTimeoutSeconds: Number(seconds) }),
    ...(typeof values.paused === "boolean" ? { paused: values.paused } : {}),
    ...(maintenanceNote === undefined ? {} : { maintenanceNote }),
  };
}
