import type { Environment } from "../../../src/executor/environment.ts";
import { jobLabels } from "../engine/labels.ts";
import { openFormerCache } from "../kept/former.ts";
import { nameOf, type Scene } from "./scene.ts";

/**
 * What other runners of the family have kept at this engine. `null`: a fork's job finds nothing of others.
 * @param image of the container that is made, and not started, to read them
 */
export function formerCachesOf(scene: Scene, image: string): NonNullable<Environment["formerCache"]> | null {
  const { engine, marks, request } = scene;
  const { formerNames, trust } = request;
  if (formerNames === undefined || trust.level === "fork") return null;
  return async (path, signal) => {
    const scratch = { image, name: nameOf(scene, "cache"), labels: jobLabels(marks, "cache") };
    const protectedOnly = trust.level === "protected";
    return await openFormerCache(engine, { names: formerNames, protectedOnly, path, scratch }, signal);
  };
}
