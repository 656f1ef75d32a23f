#!/usr/bin/env node
// Bundles src/main.ts with everything it needs into dist/alloy-runner.mjs and its parts, which Node runs and Bun compiles.
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { leaveOut } from "./left-out.mjs";
import { bundlePage } from "./page.mjs";

if (process.argv.includes("--help")) {
  console.log(
    "Use: npm run build\nWrites dist/alloy-runner.mjs, and in dist/parts what it loads when first asked for.",
  );
  process.exit(0);
}
const top = join(dirname(fileURLToPath(import.meta.url)), "..");
const { version } = JSON.parse(readFileSync(join(top, "package.json"), "utf8"));

/** The commit that is built; a tree without git (a source archive) says so. */
function revision() {
  try {
    return execFileSync("git", ["rev-parse", "--short=8", "HEAD"], {
      cwd: top,
      encoding: "utf8",
      stdio: "pipe",
    }).trim();
  } catch {
    return "unknown";
  }
}

/** What threads run, as text in the bundle: a program of its own, so that each of them loads no more than that. */
async function threadCode() {
  const { outputFiles } = await build({
    absWorkingDir: top,
    entryPoints: ["src/transfer/zip/thread.ts"],
    bundle: true,
    write: false,
    platform: "node",
    target: "node22",
    format: "cjs",
    minifyWhitespace: true,
    minifySyntax: true,
    logLevel: "warning",
  });
  return outputFiles[0].text;
}

rmSync(join(top, "dist/parts"), { recursive: true, force: true });
await build({
  absWorkingDir: top,
  entryPoints: [{ in: "src/main.ts", out: "alloy-runner" }],
  outdir: "dist",
  outExtension: { ".js": ".mjs" },
  chunkNames: "parts/[name]-[hash]",
  bundle: true,
  // What is imported by a call is a file of its own: of one large file each start would read, and keep, what no command used.
  splitting: true,
  // Modules are named by their path in the tree, also where node_modules lies elsewhere.
  preserveSymlinks: true,
  platform: "node",
  target: "node22",
  format: "esm",
  // Names stay as they are, for stack traces. `keepNames` would define them anew on each closure, at run time.
  minifyWhitespace: true,
  minifySyntax: true,
  legalComments: "none",
  logLevel: "warning",
  plugins: [leaveOut(top)],
  define: {
    "process.env.UNDICI_USE_MILO": "undefined",
    // Bun would write the directory of this tree in their place.
    __filename: "__file",
    __dirname: "__folder",
    __ALLOY_RUNNER_VERSION__: JSON.stringify(version),
    __ALLOY_RUNNER_THREAD__: JSON.stringify(await threadCode()),
    // As a text: an object would be part of what each start reads.
    __ALLOY_RUNNER_PAGE__: JSON.stringify(JSON.stringify(await bundlePage())),
    __ALLOY_RUNNER_REVISION__: JSON.stringify(revision()),
  },
  // Packages in CommonJS reach the runtime's own modules, and nothing that happens to lie on a machine's disk.
  banner: {
    js: `const __file=new URL(import.meta.url).pathname,__folder=new URL(".",import.meta.url).pathname,require=name=>{const own=process.getBuiltinModule(name);if(own===undefined)throw new Error(name+" is not in the bundle");return own};`,
  },
});
