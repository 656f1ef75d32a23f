import { describeError } from "../../../src/errors.ts";
import type { HostPlaces } from "../../../src/executor/deps.ts";
import type { Diagnosis, Doubt } from "../../../src/executor/executor.ts";
import type { PrepareRequest } from "../../../src/executor/prepare.ts";
import { homeDirectory } from "../../common/places/home.ts";
import { loginsOfOperator } from "../../images/login-sources.ts";
import { parseReference } from "../../images/reference.ts";
import type { DockerSettings } from "../settings/settings.ts";
import { connectEngine, type Engine } from "./engine.ts";
import { mustRunLinux } from "./linux.ts";

const LOGIN_LIMIT_MS = 10_000;

interface Diagnosed extends Pick<PrepareRequest, "environment"> {
  readonly settings: DockerSettings;
  readonly host: HostPlaces;
}

/**
 * Asks an engine for its version, and has it try the operator's logins for the images that the entry names.
 * @throws {SystemFailure} no job could run there
 */
export async function diagnoseEngine(asked: Diagnosed, signal: AbortSignal): Promise<Diagnosis> {
  const { settings, host } = asked;
  const connection = { settings: settings.connection, env: host.env, scratchDir: host.scratch };
  const engine = await connectEngine(connection, signal);
  try {
    mustRunLinux(engine);
    return { state: `${engine.product}, API ${engine.apiVersion}`, doubts: await loginDoubts(engine, asked, signal) };
  } finally {
    await engine.close();
  }
}

async function loginDoubts(engine: Engine, asked: Diagnosed, signal: AbortSignal): Promise<Doubt[]> {
  const { settings, environment, host } = asked;
  const logins = await loginsOfOperator(environment, { env: host.env, home: homeDirectory() });
  const doubts: Doubt[] = [];
  for (const name of new Set([settings.image ?? "", ...settings.services.map((service) => service.name)])) {
    const reference = parseReference(name.trim());
    if (reference === null || name.includes("$")) continue;
    const [best] = await logins.find(reference, signal);
    if (best === undefined) continue;
    const problem = await engine
      .call("try a login", (docker) => docker.checkAuth(best.login), signal, LOGIN_LIMIT_MS)
      .then(() => null, describeError);
    signal.throwIfAborted();
    if (problem === null) continue;
    doubts.push({
      cause: `the login for ${reference.registry} in ${best.from}, for the image ${name}, does not work: ${problem}`,
      remedy: `Log in again ("docker login ${reference.registry}" as the runner's account), or correct what is configured there`,
    });
  }
  const unread = logins.warnings.map((cause): Doubt => ({ cause, remedy: "Correct it, or remove it" }));
  return [...unread, ...doubts];
}
