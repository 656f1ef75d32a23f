import type { Notes, PrepareRequest } from "../../../src/executor/prepare.ts";
import { homeDirectory } from "../../common/places/home.ts";
import { loginsOfJob } from "../../images/login-sources.ts";
import { DOCKER_HUB, parseReference } from "../../images/reference.ts";

/** Logins for the images of one job, as the cluster takes them in a secret of the type `kubernetes.io/dockerconfigjson`. */
export type Auths = Readonly<
  Record<string, { readonly username: string; readonly password: string; readonly auth: string }>
>;

const HUB_KEY = "https://index.docker.io/v1/";

/** Finds the best login for each image in all sources. `null`: none is known to be needed. */
export async function loginsFor(
  images: readonly string[],
  request: PrepareRequest,
  env: Readonly<Record<string, string | undefined>>,
  notes: Notes,
  signal: AbortSignal,
): Promise<Auths | null> {
  const logins = await loginsOfJob(request, { env, home: homeDirectory() });
  for (const warning of logins.warnings) notes.print(warning, "warning");
  const auths: Record<string, Auths[string]> = {};
  for (const image of new Set(images)) {
    const reference = parseReference(image);
    if (reference === null) continue;
    for (const { login, from } of await logins.find(reference, signal)) {
      const { username, password } = login;
      if (username === undefined || password === undefined) {
        notes.print(
          `The login of ${from} for ${reference.registry} is a token that clusters do not take: it is left out`,
          "warning",
        );
        continue;
      }
      const place = reference.registry === DOCKER_HUB ? HUB_KEY : `${reference.registry}/${reference.repository}`;
      auths[place] ??= { username, password, auth: Buffer.from(`${username}:${password}`).toString("base64") };
      break;
    }
  }
  return Object.keys(auths).length === 0 ? null : auths;
}
