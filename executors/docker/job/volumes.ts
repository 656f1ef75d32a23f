import { SystemFailure } from "../../../src/errors.ts";
import type { Notes } from "../../../src/executor/prepare.ts";
import { all } from "../../../src/time.ts";
import { cleanPath, contains } from "../../common/places/posix-paths.ts";
import { md5, type Places, uniqueName } from "../container/places.ts";
import type { Engine } from "../engine/engine.ts";
import { type JobMarks, jobLabels, keptLabels } from "../engine/labels.ts";
import { findFormer } from "../kept/former.ts";
import type { JobUses } from "../kept/uses.ts";
import type { DockerSettings } from "../settings/settings.ts";

export interface JobVolumes {
  /** `source:target[:mode]`, for the containers that scripts and the runner's own work run in. */
  readonly binds: readonly string[];
  /** For services: never the job's private files, and the builds directory where they may see it. */
  readonly serviceBinds: readonly string[];
  /** Paths of volumes that the runner made: jobs may write there, whoever they run as. */
  readonly open: readonly string[];
}

interface VolumesOptions {
  readonly settings: DockerSettings;
  readonly marks: JobMarks;
  readonly places: Places;
  readonly slot: number;
  /** Directories of this host are made absolute against it. */
  readonly workingDirectory: string;
  /**
   * The job's private files (`tmpDir`) are on a volume of their own. Where they are not they lie in the builds directory, which
   * services do not get, then.
   */
  readonly privateVolume: boolean;
  readonly uses: Pick<JobUses, "volumes">;
  readonly notes: Pick<Notes, "print">;
  expand(text: string): string;
}

interface Planned {
  readonly target: string;
  readonly bind: string;
  /** A volume to create; `null`: a directory of the host, or a volume of the operator's. */
  readonly volume: { readonly name: string; readonly kept: boolean } | null;
  /** The runner's, or another one's of the family: everybody in the job may write there. */
  readonly own: boolean;
  /** `null`: services do not see it. */
  readonly serviceBind: string | null;
  /** The name of a volume that another runner has kept for this path. */
  readonly former?: string;
}

/**
 * Binds of the host, and a volume for every other path and for the builds directory: kept per project and slot, or (with
 * `disable_cache`, and for a fork) removed with the job, as is the one of its private files. A kept one of protected refs is not
 * what other refs could have prepared. What another runner of the family has kept for a path is used on, where this one has kept
 * nothing yet; a builds directory is made anew, as others have their jobs' secrets in it.
 * @param there names of volumes that the engine has
 * @throws {SystemFailure} two entries have the same place
 */
export function planVolumes(
  options: Omit<VolumesOptions, "uses" | "notes">,
  there: ReadonlySet<string> = new Set(),
): readonly Planned[] {
  const { settings, marks, places, slot, expand } = options;
  const { request } = marks;
  const unique = uniqueName(request.runnerId, request.job.projectId, slot);
  const { level } = request.trust;
  const kept = (!settings.disableCache || settings.volumeKeep) && level !== "fork";
  const absolute = (target: string): string => cleanPath(target.startsWith("/") ? target : `${places.root}/${target}`);

  const visible = settings.servicesSeeBuilds && options.privateVolume;
  // The volume of the builds directory begins empty, whatever the image of a service has at its place.
  const serviceBindOf = (bind: string, target: string, named: boolean): string | null => {
    if (!contains(target, places.buildsDir)) return bind;
    if (!visible) return null;
    return named ? `${bind}:nocopy` : bind;
  };

  const own = (target: string): Planned => {
    const keptAs = `${md5(target)}${level === "protected" ? "-protected" : ""}`;
    const name = kept ? `${unique}-cache-${keptAs}` : `alloy-${request.jobKey}-${md5(target)}`;
    if (settings.cacheDir !== undefined && kept) {
      const host = settings.cacheDir.startsWith("/")
        ? settings.cacheDir
        : cleanPath(`${options.workingDirectory}/${settings.cacheDir}`);
      const bind = `${host}/${unique}/${keptAs}:${target}`;
      return { target, bind, volume: null, own: true, serviceBind: serviceBindOf(bind, target, false) };
    }
    const former = !kept || target === places.buildsDir || there.has(name) ? [] : (request.formerNames?.(slot) ?? []);
    const found = former.map((before) => `${before}-cache-${keptAs}`).find((before) => there.has(before));
    if (found !== undefined) {
      const bind = `${found}:${target}`;
      const serviceBind = serviceBindOf(bind, target, true);
      return { target, bind, volume: null, own: true, serviceBind, former: found };
    }
    const bind = `${name}:${target}`;
    return { target, bind, volume: { name, kept }, own: true, serviceBind: serviceBindOf(bind, target, true) };
  };

  const planned = settings.volumes.map((entry): Planned => {
    const target = absolute(expand(entry.target));
    if (entry.source === null) return own(target);
    const bind = [entry.source, target, entry.mode].filter((part) => part !== "").join(":");
    return { target, bind, volume: null, own: false, serviceBind: serviceBindOf(bind, target, false) };
  });
  if (!places.shared && !planned.some(({ target }) => target === places.buildsDir)) planned.push(own(places.buildsDir));
  if (options.privateVolume) {
    const name = `alloy-${request.jobKey}-private`;
    const bind = `${name}:${places.tmpDir}:nocopy`;
    planned.push({ target: places.tmpDir, bind, volume: { name, kept: false }, own: false, serviceBind: null });
  }
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

/** An engine that tells nobody what it has makes all anew. */
async function formerVolumes(
  engine: Engine,
  { settings, marks }: Pick<VolumesOptions, "settings" | "marks">,
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const keeps = !settings.disableCache || settings.volumeKeep;
  const mayFind = marks.request.formerNames !== undefined && settings.volumes.some(({ source }) => source === null);
  if (!keeps || !mayFind) return new Set();
  const found = await findFormer(engine, signal).catch(() => null);
  signal.throwIfAborted();
  return found?.volumes ?? new Set();
}

/** Create what is to be created. A kept volume that is there already stays as it is. */
export async function createVolumes(engine: Engine, options: VolumesOptions, signal: AbortSignal): Promise<JobVolumes> {
  const { settings, marks, places } = options;
  const planned = planVolumes(options, await formerVolumes(engine, options, signal));
  const former = planned.flatMap((one) => (one.former === undefined ? [] : [one.target]));
  if (former.length > 0) options.notes.print(`Using what another runner has kept of ${former.join(", ")}`);
  await options.uses.volumes(planned.flatMap(({ volume }) => (volume?.kept === true ? [volume.name] : [])));
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
  return {
    binds: planned.map(({ bind }) => bind),
    serviceBinds: planned.flatMap(({ serviceBind }) => serviceBind ?? []),
    open: planned.filter(({ own, target }) => own && target !== places.buildsDir).map(({ target }) => target),
  };
}
