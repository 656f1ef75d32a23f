import { spawn } from "node:child_process";
import { join } from "node:path";
import { exclusively, imageName, imageRecipe, rootTar, type TestImage } from "../images.ts";
import type { Node } from "./node.ts";

const archiver = join(import.meta.dirname, "image-archive.py");

/** The parts of an image that the tests put together themselves. */
export interface OwnImage {
  /** `docker.io/alloy-test/runner:1` */
  readonly name: string;
  /** Arguments of root-tar.py. */
  readonly root: readonly string[];
  readonly changes: readonly string[];
}

/** Brings images into the node that are not there yet. Their names in a pod are those of `imageName`. */
export async function bringImages(node: Node, wanted: readonly TestImage[]): Promise<void> {
  for (const image of wanted) {
    await bringImage(node, { name: `docker.io/${imageName(image)}`, ...imageRecipe(image) });
  }
}

export async function bringImage(node: Node, image: OwnImage): Promise<void> {
  await exclusively(`alloy-test-cluster-images-${node.number}`, async () => {
    if ((await node.ctr("images", "ls", "-q")).split("\n").includes(image.name)) return;
    const archive = join(node.state, "image.tar");
    await makeArchive(image, archive);
    await node.ctr("images", "import", "--snapshotter", node.snapshotter, archive);
  });
}

async function makeArchive({ name, root, changes }: OwnImage, archive: string): Promise<void> {
  const tar = spawn("python3", [rootTar, ...root], { stdio: ["ignore", "pipe", "pipe"] });
  const made = spawn("python3", [archiver, name, JSON.stringify(configuration(changes)), archive], {
    stdio: [tar.stdout, "ignore", "pipe"],
  });
  tar.stdout.destroy();
  let complaints = "";
  for (const stream of [tar.stderr, made.stderr]) stream?.on("data", (chunk) => (complaints += String(chunk)));
  const codes = await Promise.all(
    [tar, made].map((child) => new Promise<number | null>((resolve) => child.on("close", resolve))),
  );
  if (codes.some((code) => code !== 0)) throw new Error(`the image ${name} cannot be made: ${complaints}`);
}

/** Lines of a Dockerfile as an image's configuration. */
function configuration(changes: readonly string[]): Record<string, unknown> {
  const config: Record<string, unknown> = {};
  const env: string[] = [];
  const labels: Record<string, string> = {};
  for (const change of changes) {
    const [, word = "", rest = ""] = /^(\w+) (.*)$/s.exec(change) ?? [];
    const [, key = "", value = ""] = /^([^=]+)=(.*)$/s.exec(rest) ?? [];
    if (word === "ENV") env.push(rest);
    else if (word === "LABEL") labels[key] = value.replace(/^"|"$/g, "");
    else if (word === "CMD") config.Cmd = JSON.parse(rest);
    else if (word === "ENTRYPOINT") config.Entrypoint = JSON.parse(rest);
    else if (word === "USER") config.User = rest;
    else if (word === "STOPSIGNAL") config.StopSignal = rest;
    else if (word === "WORKDIR") config.WorkingDir = rest;
    else if (word === "EXPOSE") config.ExposedPorts = { [`${rest}/tcp`]: {} };
    else throw new Error(`an image's configuration has no ${change}`);
  }
  return { ...config, Env: env, Labels: labels };
}
