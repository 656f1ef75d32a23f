import { SystemFailure } from "../../src/errors.ts";
import { all } from "./all.ts";
import type { Engine } from "./engine.ts";
import { type JobMarks, jobLabels, keptLabels } from "./labels.ts";
import { cleanPath, md5, type Places, uniqueName } from "./places.ts";
import type { DockerSettings } from "./settings.ts";

export interface JobVolumes {
  /** `source:target[:mode]`, for all containers of the job. */
  readonly binds: readonly string[];
  /** Paths of volumes that the runner made: jobs may write there, whoever they run as. */
  readonly open: readonly string[];
  /** The builds directory is kept when the job is over. */
  readonly keepsBuilds: boolean;
}

export interface VolumesOptions {
  readonly settings: DockerSettings;
  readonly marks: JobMarks;
  readonly places: Places;
  readonly slot: number;
  /** Directories of this host are made absolute against it. */
  readonly workingDirectory: string;
  expand(text: string): string;
}

interface Planned {
  readonly target: string;
  readonly bind: string;
  /** A volume to create; `null`: a directory of the host, or a volume of the operator's. */
  readonly volume: { readonly name: string; readonly kept: boolean } | null;
  /** The runner's: everybody in the job may write there. */
  readonly own: boolean;
}

/**
 * Binds of the host, and a volume for every other path and for the builds directory: kept per project and slot, or (with
 * `disable_cache`, and for a fork) removed with the job. One of protected refs is not what other refs could have prepared.
 * @throws {SystemFailure} two entries have the same place
 */
export function planVolumes(options: VolumesOptions): readonly Planned[] {
  const { settings, marks, places, slot, expand } = options;
  const { request } = marks;
  const unique = uniqueName(request.runnerId, request.job.projectId, slot);
  const { level } = request.trust;
  const kept = (!settings.disableCache || settings.volumeKeep) && level !== "fork";
  const absolute = (target: string): string => cleanPath(target.startsWith("/") ? target : `${places.root}/${target}`);

  const own = (target: string): Planned => {
    const keptAs = `${md5(target)}${level === "protected" ? "-protected" : ""}`;
    const name = kept ? `${unique}-cache-${keptAs}` : `alloy-${request.jobKey}-${md5(target)}`;
    if (settings.cacheDir !== undefined && kept) {
      const host = settings.cacheDir.startsWith("/")
        ? settings.cacheDir
        : cleanPath(`${options.workingDirectory}/${settings.cacheDir}`);
      return { target, bind: `${host}/${unique}/${keptAs}:${target}`, volume: null, own: true };
    }
    return { target, bind: `${name}:${target}`, volume: { name, kept }, own: true };
  };

  const planned = settings.volumes.map((entry): Planned => {
    const target = absolute(expand(entry.target));
    if (entry.source === null) return own(target);
    const bind = [entry.source, target, entry.mode].filter((part) => part !== "").join(":");
    return { target, bind, volume: null, own: false };
  });
  if (!places.shared && !planned.some(({ target }) => target === places.buildsDir)) planned.push(own(places.buildsDir));
  const seen = new Set<string>();
  for (const { target } of planned) {
    if (seen.has(target)) {
      throw new SystemFailure(`volumes in [runners.docker] names ${target} twice`, {
        reason: "runner_configuration_error",
      });
    }
    seen.add(target);
  }
  return planned;
}

/** Create what is to be created. A kept volume that is there already stays as it is. */
export async function createVolumes(engine: Engine, options: VolumesOptions, signal: AbortSignal): Promise<JobVolumes> {
  const { settings, marks, places } = options;
  const planned = planVolumes(options);
  await all(
    planned.map(async ({ volume, target }) => {
      if (volume === null) return;
      await engine.call(
        `create the volume for ${target}`,
        (docker, abortSignal) =>
          docker.createVolume({
            Name: volume.name,
            Labels: volume.kept ? keptLabels(marks, target) : jobLabels(marks, "volume"),
            ...(settings.volumeDriver === undefined ? {} : { Driver: settings.volumeDriver }),
            ...(Object.keys(settings.volumeDriverOptions).length === 0
              ? {}
              : { DriverOpts: { ...settings.volumeDriverOptions } }),
            abortSignal,
          }),
        signal,
      );
    }),
  );
  const builds = planned.find(({ target }) => target === places.buildsDir);
  return {
    binds: planned.map(({ bind }) => bind),
    open: planned.filter(({ own, target }) => own && target !== places.buildsDir).map(({ target }) => target),
    keepsBuilds: places.shared || builds?.volume?.kept !== false,
  };
}
