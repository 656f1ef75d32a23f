import { ScriptFailure, SystemFailure } from "../../../../src/errors.ts";
import type { WantedImage } from "../../../images/wanted.ts";
import { createContainer } from "../../container/container.ts";
import { readContainerFile } from "../../container/container-file.ts";
import { removeContainer } from "../../container/remove.ts";
import type { Engine } from "../../engine/engine.ts";
import type { ObtainedImage } from "../../image/image.ts";
import type { DockerSettings } from "../../settings/settings.ts";
import { type Account, type AccountFiles, inNumbers, isNamed, isRoot, lookUp, ROOT } from "./account.ts";

/**
 * Who a job's programs run as is settled before any of them runs: by the configuration, the job or the image's configuration.
 * A name is looked up in the image's /etc/passwd and /etc/group, which are read from a container that is never started; the
 * job's container gets numbers, so that what happens to those files later changes nothing.
 */
export interface Accounts {
  /**
   * @throws {SystemFailure} `user` of the configuration is nobody in this image
   * @throws {ScriptFailure} the job's or the image's user is nobody in this image, or somebody else than it seems
   */
  of(request: AccountRequest, signal: AbortSignal): Promise<Account>;
}

interface AccountRequest {
  readonly engine: Engine;
  readonly settings: Pick<DockerSettings, "user" | "allowedUsers">;
  readonly wanted: Pick<WantedImage, "user">;
  readonly image: ObtainedImage;
  /** Name and labels of a container that is made for reading, and removed. */
  readonly scratch: { readonly name: string; readonly labels: Readonly<Record<string, string>> };
}

/** An id names the content of an image, so an answer holds for good; the oldest ones are forgotten. */
const KEPT_ANSWERS = 500;
const MOST_FILE_BYTES = 1024 * 1024;

export function createAccounts(): Accounts {
  const known = new Map<string, Account>();
  return {
    of: async (request, signal) => {
      const { settings, wanted, image } = request;
      const text = wanted.user ?? image.user;
      if (isRoot(text)) return ROOT;
      const given = inNumbers(text);
      if (given !== null) return given;
      const key = `${image.id} ${text}`;
      const before = known.get(key);
      const found = before ?? lookUp(text, await readFiles(request, signal));
      if ("missing" in found) throw nobody(request, text, found.missing);
      if (before === undefined) known.set(key, found);
      for (const oldest of known.keys()) {
        if (known.size <= KEPT_ANSWERS) break;
        known.delete(oldest);
      }
      // Where it is the operator's word, it must not be the image that makes root of it.
      const bound = settings.user !== undefined || settings.allowedUsers.length > 0;
      if (bound && isNamed(text) && found.uid === 0) {
        throw new ScriptFailure(
          `In the image ${image.name} the user ${JSON.stringify(text)} is root (uid 0 in its /etc/passwd), which ${settings.user === undefined ? "allowed_users" : "user"} in [runners.docker] does not mean. Use another image`,
        );
      }
      return found;
    },
  };
}

async function readFiles({ engine, image, scratch }: AccountRequest, signal: AbortSignal): Promise<AccountFiles> {
  const container = await createContainer(
    engine,
    `a container for reading the accounts of the image ${image.name}`,
    {
      name: scratch.name,
      Image: image.id,
      Labels: { ...scratch.labels },
      User: "0",
      // Engines want to know a program; it is never started.
      Entrypoint: ["sh"],
      Cmd: [],
      HostConfig: { NetworkMode: "none" },
    },
    signal,
  );
  const read = async (path: string): Promise<string> => {
    const file = await readContainerFile(engine, { container, path, mostBytes: MOST_FILE_BYTES }, signal);
    return file?.toString("utf8") ?? "";
  };
  const files = { passwd: await read("/etc/passwd"), group: await read("/etc/group") };
  await removeContainer(engine, container, signal);
  return files;
}

function nobody({ settings, wanted, image }: AccountRequest, text: string, missing: string): Error {
  const who = missing === text ? JSON.stringify(text) : `${JSON.stringify(text)} (there is no ${missing})`;
  const inImage = `The image ${image.name} does not know the user ${who}`;
  if (wanted.user === null) return new ScriptFailure(`${inImage}, which its own configuration names`);
  if (settings.user === undefined)
    return new ScriptFailure(`${inImage}, which the job names. Use a number, or another image`);
  return new SystemFailure(`${inImage}, which user in [runners.docker] names. Use a number, as in "1000:1000"`, {
    reason: "runner_configuration_error",
  });
}
