import type { Engine } from "../engine/engine.ts";
import { addressesOf } from "./addresses.ts";
import { type ContainerState, inspectState } from "./container.ts";
import { readContainerDirectory, readContainerFile } from "./container-file.ts";
import { containerLog } from "./service-log.ts";

/** A job's container as the engine shows it: nothing of its image runs for that. */
export interface ContainerView {
  readonly id: string;
  /** Its image's name. */
  readonly image: string;
  /** On all its networks; none once it has ended. */
  addresses(signal: AbortSignal): Promise<string[]>;
  /** `null`: it was removed. */
  state(signal: AbortSignal): Promise<ContainerState | null>;
  /** The end of what it wrote. */
  log(signal: AbortSignal): Promise<string>;
  /** `null`: there is no such file. @throws {ScriptFailure} it is larger than `mostBytes` */
  file(path: string, mostBytes: number, signal: AbortSignal): Promise<Buffer | null>;
  /** The files in a directory and below it, by their paths; `null`: there is no such directory. */
  directory(path: string, mostBytes: number, signal: AbortSignal): Promise<ReadonlyMap<string, Buffer> | null>;
}

export function viewContainer(engine: Engine, { id, image }: Pick<ContainerView, "id" | "image">): ContainerView {
  const name = "the build container";
  return {
    id,
    image,
    addresses: (signal) => addressesOf(engine, id, name, signal),
    state: (signal) => inspectState(engine, id, name, signal),
    log: (signal) => containerLog(engine, id, signal),
    file: (path, mostBytes, signal) => readContainerFile(engine, { container: id, path, mostBytes }, signal),
    directory: (path, mostBytes, signal) => readContainerDirectory(engine, { container: id, path, mostBytes }, signal),
  };
}
