import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import Docker from "dockerode";
import { makeImages, type TestImage } from "./images.ts";

export { imageName, sshPassword, type TestImage } from "./images.ts";

/** A real engine for the tests; scripts/test-engine.sh starts one where there is none. */
export interface TestEngine {
  readonly kind: "docker" | "podman";
  /** Value of `host` in `[runners.docker]`: `unix:///…`. */
  readonly host: string;
  readonly docker: Docker;
  /** Makes the images that do not exist yet. */
  images(...wanted: readonly TestImage[]): Promise<void>;
}

const uid = process.geteuid?.() ?? 0;
const state = process.env.ALLOY_TEST_ENGINE_DIR ?? `/tmp/alloy-runner-test-engine-${uid}`;

function candidates(kind: TestEngine["kind"]): string[] {
  const found =
    kind === "docker"
      ? [
          process.env.ALLOY_TEST_DOCKER,
          process.env.DOCKER_HOST,
          "unix:///var/run/docker.sock",
          `unix://${state}/docker/docker.sock`,
        ]
      : [process.env.ALLOY_TEST_PODMAN, `unix://${state}/podman/podman.sock`];
  return found.filter((host): host is string => host?.startsWith("unix://") ?? false);
}

/** A client for a socket; it ignores the environment. */
export function dockerAt(host: string): Docker {
  return new Docker({ socketPath: host.slice("unix://".length), host: undefined, protocol: "http" });
}

/**
 * The engine of this test run, or `null` where there is none; say then why tests are skipped: `noEngine`.
 * @throws {Error} there is none, and CI=true
 */
export async function testEngine(kind: TestEngine["kind"]): Promise<TestEngine | null> {
  for (const host of candidates(kind)) {
    if (!existsSync(host.slice("unix://".length))) continue;
    const docker = dockerAt(host);
    if (
      !(await docker.ping().then(
        () => true,
        () => false,
      ))
    )
      continue;
    const id = createHash("sha256").update(host).digest("hex").slice(0, 8);
    return { kind, host, docker, images: async (...wanted) => await makeImages(docker, id, wanted) };
  }
  if (process.env.CI === "true")
    throw new Error(`no ${kind} answers: run \`bash scripts/test-engine.sh start ${kind}\``);
  return null;
}

/** Why tests that need an engine are skipped. */
export const noEngine = (kind: TestEngine["kind"]): string =>
  `no ${kind} answers (bash scripts/test-engine.sh start ${kind})`;
