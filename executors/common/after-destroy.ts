import type { Environment } from "../../src/executor/environment.ts";

/** The same environment: once it is destroyed, `free` is called, once. */
export function afterDestroy(environment: Environment, free: () => Promise<void>): Environment {
  let freed = false;
  return {
    ...environment,
    destroy: async (signal) => {
      await environment.destroy(signal);
      if (freed) return;
      freed = true;
      await free();
    },
  };
}
