#!/usr/bin/env node
// Bundles src/main.ts with everything it needs into dist/alloy-runner.cjs, which Node runs and Bun compiles.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

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

// Optional native add-ons are left out: one file has no place for them, and their packages work without.
const noNative = {
  name: "no-native",
  setup(b) {
    b.onResolve({ filter: /\.node$|^cpu-features$/ }, (args) => ({ path: args.path, namespace: "no-native" }));
    b.onLoad({ filter: /.*/, namespace: "no-native" }, (args) => ({
      contents: `throw new Error(${JSON.stringify(`${args.path} is left out of the bundle`)})`,
      loader: "js",
    }));
  },
};

// Of these packages only what is used: a name that is missing here fails the build.
const PARTS = {
  undici: 'export { default as Client } from "undici/lib/dispatcher/client.js";',
  // All of it would bring the modules for clusters, gateways and HTTP servers along.
  "prom-client": ["counter", "gauge", "histogram", "registry"]
    .map((name) => `export { default as ${name[0].toUpperCase()}${name.slice(1)} } from "prom-client/lib/${name}.js";`)
    .join("\n"),
  // Prints requests with their logins where the variable DEBUG, which is everybody's, has the right word.
  debug: "module.exports = () => Object.assign(() => {}, { enabled: false });",
  // dockerode's sessions, for building images.
  "@grpc/grpc-js": "",
  "@grpc/proto-loader": "",
  // pino's ways to write by itself: it is given a stream.
  "sonic-boom": "module.exports = class {};",
  "thread-stream": "module.exports = class {};",
};

// What packages bring along and nobody here uses: it would cost each start of the program time and memory.
const lean = {
  name: "lean",
  setup(b) {
    const names = Object.keys(PARTS).join("|");
    b.onResolve({ filter: new RegExp(`^(?:${names})$`) }, ({ path }) => ({ path, namespace: "lean" }));
    // undici's second parser and HTTP/2, which only those get who ask for it.
    b.onLoad({ filter: /\/undici\/lib\/(?:milo\/|dispatcher\/client-h2\.js$)/ }, () => ({
      contents: "module.exports = {};",
    }));
    b.onLoad({ filter: /\/zod\/v4\/classic\/from-json-schema\.js$/ }, () => ({
      contents: "export const fromJSONSchema = undefined;",
    }));
    b.onResolve({ filter: /\/locales\/index\.js$/ }, (args) =>
      args.resolveDir.includes("/zod/")
        ? // Relative: where the tree lies must not show in the bundle.
          { path: relative(top, join(args.resolveDir, args.path)), namespace: "lean" }
        : undefined,
    );
    b.onLoad({ filter: /.*/, namespace: "lean" }, ({ path }) =>
      path in PARTS
        ? { contents: PARTS[path], resolveDir: top }
        : { contents: 'export { default as en } from "./en.js";', resolveDir: join(top, dirname(path)) },
    );
  },
};

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
  plugins: [noNative, lean],
  define: {
    "import.meta.url": "__imu",
    "process.env.UNDICI_USE_MILO": "undefined",
    // Bun would write the directory of this tree in their place.
    __filename: "__file",
    __dirname: "__folder",
    __ALLOY_RUNNER_VERSION__: JSON.stringify(version),
    __ALLOY_RUNNER_REVISION__: JSON.stringify(revision()),
  },
  banner: {
    js: 'const __file=module.filename,__folder=require("node:path").dirname(__file),__imu=require("node:url").pathToFileURL(__file).href;',
  },
});
