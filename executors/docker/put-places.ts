import { SystemFailure } from "../../src/errors.ts";
import { tarEnd, tarHeader } from "../../src/tar.ts";
import { fileNameOf } from "../../src/workspace.ts";
import type { Account } from "./account.ts";
import { type Engine, isGone } from "./engine.ts";
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
  const names = [...new Set([root, tmpDir].flatMap((path) => levels(path.slice(buildsDir.length + 1))))];
  const tar = Buffer.concat([
    ...names.map((name) =>
      tarHeader(
        { name: fileNameOf(name), kind: "directory", size: 0, mode: 0o755, mtimeSeconds: 0, target: fileNameOf("") },
        name.split("/").length > kept ? account : undefined,
      ),
    ),
    tarEnd,
  ]);
  const what = `make the directories of the job in ${buildsDir}`;
  try {
    await engine.call(what, (docker) => docker.getContainer(id).putArchive(tar, { path: buildsDir }), signal);
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
