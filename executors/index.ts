import { ConfigError } from "../src/errors.ts";
import type { ExecutorCatalog, ExecutorDefinition } from "../src/executor/executor.ts";
import type { ExecutorWords } from "../src/executor/words.ts";
import { absent } from "./absent.ts";
import { words as custom } from "./custom/words.ts";
import { words as docker } from "./docker/words.ts";
import { words as dockerAutoscaler } from "./docker-autoscaler/words.ts";
import { words as dockerMachine } from "./docker-machine/words.ts";
import { words as dockerSsh } from "./docker-ssh/words.ts";
import { words as dockerSshMachine } from "./docker-ssh-machine/words.ts";
import { words as instance } from "./instance/words.ts";
import { words as kubernetes } from "./kubernetes/words.ts";
import { words as parallels } from "./parallels/words.ts";
import { words as shell } from "./shell/words.ts";
import { words as ssh } from "./ssh/words.ts";
import { words as virtualbox } from "./virtualbox/words.ts";

/** What it is called, and the rest, which is loaded when first asked for, because some bring large libraries. */
export type CatalogLine = readonly [words: ExecutorWords, load: () => Promise<{ default: ExecutorDefinition }>];

/** One line per executor. */
export const lines: readonly CatalogLine[] = [
  [shell, () => import("./shell/index.ts")],
  [docker, () => import("./docker/index.ts")],
  [ssh, () => import("./ssh/index.ts")],
  [dockerSsh, () => import("./docker-ssh/index.ts")],
  [dockerMachine, () => import("./docker-machine/index.ts")],
  [dockerSshMachine, () => import("./docker-ssh-machine/index.ts")],
  [instance, () => import("./instance/index.ts")],
  [dockerAutoscaler, () => import("./docker-autoscaler/index.ts")],
  [custom, () => import("./custom/index.ts")],
  [virtualbox, () => import("./virtualbox/index.ts")],
  [parallels, () => import("./parallels/index.ts")],
  [kubernetes, () => import("./kubernetes/index.ts")],
];

/** All executors of this program, by their names in config.toml. */
export const executors: ExecutorCatalog = createCatalog(lines);

export function createCatalog(known: readonly CatalogLine[]): ExecutorCatalog {
  const words = known.map(([each]) => each);
  const names = words.map(({ name }) => name);
  return {
    names,
    words,
    absent,
    load: async (name) => {
      const line = known.find(([each]) => each.name === name);
      if (line === undefined) throw new ConfigError(`There is no executor "${name}"; known are ${names.join(", ")}`);
      return (await line[1]()).default;
    },
  };
}
