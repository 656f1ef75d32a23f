import type { Note, PrepareRequest } from "../../src/executor/prepare.ts";
import type { Image, Job, Service, Variable } from "../../src/job/job.ts";
import { preparedVariables, setUp } from "../../src/job/plan/set-up.ts";
import { sampleRequest } from "../support/executor-kit.ts";

/** A job to prepare in a pod, for a runner with this `environment`, whose variables are expanded as the runner does it. */
export function requestOf(
  parts: Partial<Job>,
  environment: readonly { readonly key: string; readonly value: string }[] = [],
): PrepareRequest & { readonly notes: Note[] } {
  const request = sampleRequest();
  const job = { ...request.job, ...parts };
  const identity = { version: "1", revision: "r", architecture: "linux/amd64" };
  const features = { variables: true, image: true, services: true, shared: false };
  const sources = {
    job,
    runner: { environment, shortToken: "", debugTraceDisabled: false, featureFlags: {} },
    identity,
    executor: { features },
    concurrentId: 0,
  };
  const { variables, settings } = setUp(sources, null);
  return {
    ...request,
    job,
    variables: job.variables.map((each) => ({ ...each, value: variables.expand(each.value) })),
    debugServices: settings.debugServices,
    expand: variables.expand,
    expandSettled: variables.expandSettled,
    openVariables: (place) => preparedVariables(sources, place),
  };
}

/** A job's image of this name; whatever else is not set stays with the entry. */
export function imageNamed(name: string, parts: Partial<Image> = {}): Image {
  return { name, entrypoint: null, pullPolicies: [], user: null, platform: null, ...parts };
}

/** A job's service with this image, which listens to no other name. */
export function serviceNamed(name: string, parts: Partial<Service> = {}): Service {
  return { ...imageNamed(name), aliases: [], command: null, variables: [], ...parts };
}

/** A variable that is neither secret nor a file. */
export function plainVariable(key: string, value: string): Variable {
  return { key, value, public: true, file: false, masked: false, raw: false };
}
