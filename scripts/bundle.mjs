#!/usr/bin/env node
// Bundles src/main.ts with everything it needs into dist/alloy-runner.cjs, which Node runs and Bun compiles.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { leaveOut } from "./left-out.mjs";

if (process.argv.includes("--help")) {
  console.log("Use: npm run build\nWrites dist/alloy-runner.cjs: the whole program in one CommonJS file.");
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

await build({
  absWorkingDir: top,
  entryPoints: ["src/main.ts"],
  outfile: "dist/alloy-runner.cjs",
  bundle: true,
  // Modules are named by their path in the tree, also where node_modules lies elsewhere.
  preserveSymlinks: true,
  platform: "node",
  target: "node22",
  format: "cjs",
  // Names stay as they are, for stack traces. `keepNames` would define them anew on each closure, at run time.
  minifyWhitespace: true,
  minifySyntax: true,
  legalComments: "none",
  logLevel: "warning",
  plugins: [leaveOut(top)],
  define: {
    "import.meta.url": "__imu",
    "process.env.UNDICI_USE_MILO": "undefined",
    // Bun would write the directory of this tree in their place.
    __filename: "__file",
    __dirname: "__folder",
    __ALLOY_RUNNER_VERSION__: JSON.stringify(version),
    __ALLOY_RUNNER_THREAD__: JSON.stringify(await threadCode()),
    __ALLOY_RUNNER_REVISION__: JSON.stringify(revision()),
  },
  banner: {
    js: 'const __file=module.filename,__folder=require("node:path").dirname(__file),__imu=require("node:url").pathToFileURL(__file).href;',
  },
});
