import { ConfigError } from "../src/errors.ts";
import type { ExecutorCatalog, ExecutorDefinition } from "../src/executor.ts";

/** One line per executor. Loaded when first asked for, because some bring large libraries. */
const loaders: Readonly<Record<string, () => Promise<{ default: ExecutorDefinition }>>> = {
  shell: () => import("./shell/index.ts"),
  docker: () => import("./docker/index.ts"),
  ssh: () => import("./ssh/index.ts"),
  "docker-ssh": () => import("./docker-ssh/index.ts"),
};

/** All executors of this program, by their names in config.toml. */
export const executors: ExecutorCatalog = {
  names: Object.keys(loaders),
  load: async (name) => {
    const loader = Object.hasOwn(loaders, name) ? loaders[name] : undefined;
    if (loader === undefined) {
      throw new ConfigError(`There is no executor "${name}"; known are ${Object.keys(loaders).join(", ")}`);
    }
    return (await loader()).default;
  },
};
