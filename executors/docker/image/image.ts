import type { ImageInspectInfo } from "dockerode";
import { z } from "zod";
import { SystemFailure } from "../../../src/errors.ts";
import { type Engine, isGone } from "../engine/engine.ts";

/** An image that the engine has, with what of its configuration matters for containers. */
export interface ObtainedImage {
  /** What containers are created from, so that a tag that moves has no effect: `sha256:…`. */
  readonly id: string;
  /** As it was named, with variables expanded. */
  readonly name: string;
  /** Names that it has at the engine. */
  readonly tags: readonly string[];
  /** Whether the runner has just pulled it, and it was not there before. */
  readonly pulled?: "new" | "known";
  /** `registry/repository@sha256:…`, of each registry that it came from. */
  readonly digests: readonly string[];
  readonly user: string;
  readonly workingDir: string;
  /** `NAME=value` */
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  /** `80/tcp` */
  readonly exposedPorts: readonly string[];
  /** Names of its labels, which its containers inherit. */
  readonly labels: readonly string[];
  /** Paths for which the engine makes anonymous volumes. */
  readonly volumes: readonly string[];
  readonly os: string;
  readonly architecture: string;
}

const list = z
  .array(z.string())
  .nullish()
  .transform((value) => value ?? []);
const keys = z
  .record(z.string(), z.unknown())
  .nullish()
  .transform((value) => Object.keys(value ?? {}));
const text = z
  .string()
  .nullish()
  .transform((value) => value ?? "");
/** Old images have their command as one text instead of a list. */
const words = z
  .union([z.string(), z.array(z.string())])
  .nullish()
  .transform((value): readonly string[] => (typeof value === "string" ? [value] : (value ?? [])));

const imageSchema = z.object({
  Id: z.string().min(1),
  RepoDigests: list,
  RepoTags: list,
  Os: text,
  Architecture: text,
  Config: z
    .object({
      User: text,
      WorkingDir: text,
      Env: list,
      Entrypoint: words,
      Cmd: words,
      ExposedPorts: keys,
      Volumes: keys,
      Labels: keys,
    })
    .nullish(),
});

/** What the engine has under `reference` (a canonical name or an id), or `null`. `name` is for people. */
export async function inspectImage(
  engine: Engine,
  reference: string,
  name: string,
  signal: AbortSignal,
): Promise<ObtainedImage | null> {
  let answer: ImageInspectInfo;
  try {
    answer = await engine.call(`inspect the image "${name}"`, (docker) => docker.getImage(reference).inspect(), signal);
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
  const parsed = imageSchema.safeParse(answer);
  if (!parsed.success) {
    throw new SystemFailure(`The container engine's answer about the image "${name}" cannot be understood`);
  }
  const { Id, RepoDigests, RepoTags, Os, Architecture, Config } = parsed.data;
  return {
    id: Id.includes(":") ? Id : `sha256:${Id}`,
    name,
    tags: RepoTags,
    digests: RepoDigests,
    user: Config?.User ?? "",
    workingDir: Config?.WorkingDir ?? "",
    env: Config?.Env ?? [],
    entrypoint: Config?.Entrypoint ?? [],
    command: Config?.Cmd ?? [],
    exposedPorts: Config?.ExposedPorts ?? [],
    volumes: Config?.Volumes ?? [],
    labels: Config?.Labels ?? [],
    os: Os.toLowerCase(),
    architecture: Architecture,
  };
}

const ARCHITECTURES: Readonly<Record<string, string>> = {
  x86_64: "amd64",
  "x86-64": "amd64",
  aarch64: "arm64",
  armhf: "arm",
  armel: "arm",
};

/** Whether an image is for `linux/arm64/v8` and the like; the variant is left to the engine. */
export function fitsPlatform({ os, architecture }: ObtainedImage, platform: string): boolean {
  const [wantedOs = "", wanted = ""] = platform.toLowerCase().split("/");
  const same = (name: string): string => ARCHITECTURES[name] ?? name;
  return (
    (os === "" || os === wantedOs) && (wanted === "" || architecture === "" || same(architecture) === same(wanted))
  );
}
