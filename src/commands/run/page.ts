import type { WebConfig } from "../../config/config.ts";
import { describeError } from "../../errors.ts";
import type { WebDeps, WebServer } from "../../web/server.ts";

/** The live page, as the configuration in force has it. */
export interface Page {
  /** Serves it so from now on; null ends that. Jobs run also where it cannot be served. */
  take(web: WebConfig | null): Promise<void>;
}

export function createPage(deps: WebDeps): Page {
  const { log } = deps;
  let current: WebConfig | null = null;
  let server: WebServer | undefined;
  let changing = Promise.resolve();
  const change = async (web: WebConfig | null): Promise<void> => {
    if (JSON.stringify(web) === JSON.stringify(current)) return;
    await server?.close();
    server = undefined;
    current = null;
    if (web === null) return;
    try {
      // Imported only here, because most runners serve no page.
      const { openWeb } = await import("../../web/server.ts");
      server = await openWeb(web, deps);
      current = web;
      log.info("serving the live page", { url: server.url, steering: web.password !== null });
    } catch (error) {
      log.error("there is no live page", { problem: describeError(error) });
    }
  };
  return {
    take(web) {
      changing = changing.then(() => change(web));
      return changing;
    },
  };
}
