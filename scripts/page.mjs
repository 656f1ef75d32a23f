// The live page's files, as the browser gets them.
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const top = join(dirname(fileURLToPath(import.meta.url)), "..");
const page = join(top, "src/web/page");

/** @returns {Promise<{ html: string, script: string, style: string, icon: string }>} */
export async function bundlePage() {
  const { outputFiles } = await build({
    absWorkingDir: top,
    entryPoints: [
      { in: "src/web/page/page.tsx", out: "page" },
      { in: "src/web/page/page.css", out: "page" },
    ],
    outdir: "out",
    bundle: true,
    write: false,
    preserveSymlinks: true,
    platform: "browser",
    target: "es2022",
    format: "esm",
    minify: true,
    legalComments: "none",
    logLevel: "warning",
    jsx: "automatic",
    jsxImportSource: "preact",
  });
  const text = (end) => outputFiles.find(({ path }) => path.endsWith(end)).text;
  const read = async (name) => await readFile(join(page, name), "utf8");
  return {
    html: await read("page.html"),
    script: text(".js"),
    style: text(".css"),
    icon: await read("icon.svg"),
  };
}
