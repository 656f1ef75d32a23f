import { posix } from "node:path";
import { SystemFailure } from "../../../src/errors.ts";
import { tarEnd, tarHeader } from "../../../src/files/tar.ts";
import { fileNameOf } from "../../../src/workspace.ts";
import { type Engine, isGone } from "../engine/engine.ts";
import type { Account } from "../job/accounts/account.ts";
import type { Places } from "./places.ts";

/**
 * Makes a job's directories in a container that has not been started, and its user's, by the engine's archive call: where there
 * is no helper, nobody else could without being root in the job's image. Links in the way are replaced.
 * @throws {SystemFailure} the engine cannot
 */
export async function putPlaces(
  engine: Engine,
  { id, places, account }: { id: string; places: Places; account: Account },
  signal: AbortSignal,
): Promise<void> {
  const { buildsDir, root, tmpDir, shared } = places;
  // `<builds_dir>/<runner id>` is there for all jobs of the runner, whoever they run as.
  const kept = shared ? 1 : 0;
  const checkout = levels(root.slice(buildsDir.length + 1)).map((name, index) => ({
    name,
    mode: 0o755,
    owner: index < kept ? undefined : account,
  }));
  await put(engine, { id, path: buildsDir, directories: checkout }, signal);
  // The directory of a volume itself: Docker passes over it in an archive for it, Podman does not see the volume from above.
  const [above, name] = engine.podman ? [tmpDir, "."] : [posix.dirname(tmpDir), posix.basename(tmpDir)];
  await put(engine, { id, path: above, directories: [{ name, mode: 0o700, owner: account }] }, signal);
}

interface Put {
  readonly id: string;
  /** The directory that the names are relative to. */
  readonly path: string;
  readonly directories: readonly {
    readonly name: string;
    readonly mode: number;
    readonly owner: Account | undefined;
  }[];
}

async function put(engine: Engine, { id, path, directories }: Put, signal: AbortSignal): Promise<void> {
  const tar = Buffer.concat([
    ...directories.map(({ name, mode, owner }) =>
      tarHeader(
        { name: fileNameOf(name), kind: "directory", size: 0, mode, mtimeSeconds: 0, target: fileNameOf("") },
        owner,
      ),
    ),
    tarEnd,
  ]);
  const what = `make the directories of the job in ${path}`;
  try {
    await engine.call(what, (docker) => docker.getContainer(id).putArchive(tar, { path }), signal);
  } catch (error) {
    if (!isGone(error)) throw error;
    throw new SystemFailure(`Cannot ${what}: it is not there. Set helper_image in [runners.docker]`, {
      reason: "runner_configuration_error",
      cause: error,
    });
  }
}

/** `a/b/c` → `a`, `a/b`, `a/b/c` */
function levels(path: string): string[] {
  const parts = path.split("/");
  return parts.map((_, index) => parts.slice(0, index + 1).join("/"));
}
