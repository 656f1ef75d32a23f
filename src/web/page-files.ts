import type { HttpReply } from "../serving/http.ts";

/** What the browser loads. */
export interface PageFiles {
  readonly html: string;
  readonly script: string;
  readonly style: string;
  readonly icon: string;
}

/** The same as JSON, put in by the bundler. */
declare const __ALLOY_RUNNER_PAGE__: string | undefined;

/** The page's files by their paths. */
export async function pageFiles(): Promise<ReadonlyMap<string, HttpReply>> {
  const files: PageFiles =
    typeof __ALLOY_RUNNER_PAGE__ === "string" ? JSON.parse(__ALLOY_RUNNER_PAGE__) : await bundled();
  const file = (type: string, body: string): HttpReply => ({ status: 200, type: `${type}; charset=utf-8`, body });
  return new Map([
    ["/", file("text/html", files.html)],
    ["/page.js", file("text/javascript", files.script)],
    ["/page.css", file("text/css", files.style)],
    ["/icon.svg", file("image/svg+xml", files.icon)],
  ]);
}

/** Where the program runs from its sources, they are bundled when they are asked for. */
async function bundled(): Promise<PageFiles> {
  const { href } = new URL("../../scripts/page.mjs", import.meta.url);
  const { bundlePage }: { bundlePage(): Promise<PageFiles> } = await import(href);
  return await bundlePage();
}
