import { SystemFailure } from "../../../src/errors.ts";
import type { Engine } from "./engine.ts";

/** @throws {SystemFailure} it runs containers of Windows */
export function mustRunLinux({ os, address }: Pick<Engine, "os" | "address">): void {
  if (os !== "windows") return;
  throw new SystemFailure(`The container engine at ${address} runs Windows containers: only Linux ones are supported`, {
    reason: "runner_configuration_error",
  });
}
