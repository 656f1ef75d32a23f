import { describeError, ScriptFailure, SystemFailure } from "../../../src/errors.ts";
import { PUBLIC_HELPER } from "../../images/public-helper.ts";
import { parseReference } from "../../images/reference.ts";
import type { WantedImage } from "../../images/wanted.ts";
import type { DockerSettings } from "../settings/settings.ts";
import type { ObtainedImage } from "./image.ts";

/** After the public image could not be had, the next jobs don't wait for the same answer. */
const REST_MS = 10 * 60_000;

/** Where the runner's own stages (git) of a job run. */
type HelperChoice =
  | { readonly in: "own"; readonly image: ObtainedImage }
  /** There is no such image: the job's container must serve for both, if its image has git. */
  | { readonly in: "build"; readonly why: string };

interface HelperRequest {
  readonly settings: Pick<DockerSettings, "helperImage" | "pullPolicies">;
  /** `$NAME` over what no job can change. */
  expand(text: string): string;
  /** Gets an image as the job's own images are got. */
  obtain(wanted: Pick<WantedImage, "name" | "policies" | "platform">, signal: AbortSignal): Promise<ObtainedImage>;
}

/** Chooses for the jobs of one entry. */
export interface HelperImages {
  /**
   * `helper_image`, or a public image with git, as it is pinned, or the job's own image.
   * @throws {SystemFailure} `helper_image` cannot be had
   */
  choose(request: HelperRequest, signal: AbortSignal): Promise<HelperChoice>;
}

export function createHelperImages(pinned = PUBLIC_HELPER): HelperImages {
  let missing: { readonly until: number; readonly why: string } | null = null;

  return {
    async choose({ settings, expand, obtain }, signal) {
      if (settings.helperImage !== undefined) {
        const name = expand(settings.helperImage);
        const said = (message: string): string =>
          `helper_image of [runners.docker]: ${message}${hintOn(settings.helperImage)}`;
        const wanted = { name, policies: settings.pullPolicies, platform: null };
        const image = await obtain(wanted, signal).catch((error: unknown) => {
          // The name is the operator's, whatever is wrong with it.
          if (error instanceof ScriptFailure) {
            const options = { reason: "runner_configuration_error", retry: false, cause: error } as const;
            throw new SystemFailure(said(error.message), options);
          }
          if (!(error instanceof SystemFailure)) throw error;
          const { reason, retry } = error;
          throw new SystemFailure(said(error.message), { reason, retry, cause: error });
        });
        mustBe(parseReference(name)?.digest ?? null, image, said);
        return { in: "own", image };
      }
      let why = missing !== null && performance.now() < missing.until ? missing.why : "";
      if (why === "") {
        // It changes seldom, and each job would ask the registry: what is here is good enough, where pulling is allowed at all.
        const policies = settings.pullPolicies.every((policy) => policy === "never")
          ? (["never"] as const)
          : (["if-not-present"] as const);
        try {
          const image = await obtain({ name: pinned, policies, platform: null }, signal);
          mustBe(parseReference(pinned)?.digest ?? null, image, (message) => message);
          missing = null;
          return { in: "own", image };
        } catch (error) {
          signal.throwIfAborted();
          why = describeError(error);
          missing = { until: performance.now() + REST_MS, why };
        }
      }
      return { in: "build", why };
    },
  };
}

/** @throws {SystemFailure} the engine has given another image than the one with this digest */
function mustBe(digest: string | null, { name, id, digests }: ObtainedImage, said: (message: string) => string): void {
  if (digest === null || id === digest || digests.some((known) => known.endsWith(`@${digest}`))) return;
  throw new SystemFailure(said(`the engine has another image under the name ${name}: ${digests.join(", ") || id}`), {
    reason: "runner_configuration_error",
    retry: false,
  });
}

/** Files of GitLab Runner's users name its helper image by its own version, which this program does not have. */
function hintOn(written: string | undefined): string {
  if (written === undefined || !/gitlab-runner-helper:.*\$\{?CI_RUNNER_/.test(written)) return "";
  return ". Images of gitlab-runner-helper have the versions and commits of GitLab Runner, and $CI_RUNNER_VERSION and $CI_RUNNER_REVISION are this program's: name a tag, or any other image with sh and git";
}

/** What fails a job when there is no helper image, and no git in the job's own. */
export function noHelper(why: string): SystemFailure {
  return new SystemFailure(
    `No image with git for the runner's own work: ${why}; and the job's image has no git (and sh). Set helper_image in [runners.docker] to an image with sh and git that the engine has or can pull`,
    { reason: "runner_configuration_error", retry: false },
  );
}
