// What the bundle leaves out of packages, and what says so there when it is used after all.
import { dirname, join, relative } from "node:path";

/**
 * Modules that packages name and that are never needed here: they would cost each start of the program time and memory.
 * No source file may import one of them (a test holds that): whatever the sources call is in the bundle.
 */
export const packages = [
  // dockerode's sessions, for building images.
  "@grpc/grpc-js",
  "@grpc/proto-loader",
  // pino's ways to write by itself: it is given a stream.
  "sonic-boom",
  "thread-stream",
  // Optional native add-ons: one file has no place for them, and ssh2 works without.
  "cpu-features",
];

/** Files of packages: the end of their path, and the one name that is imported from it where it is an ES module. */
const files = [
  // undici's second parser and HTTP/2, which only those get who ask for it.
  { filter: /\/undici\/lib\/milo\/[^/]+\.js$/ },
  { filter: /\/undici\/lib\/dispatcher\/client-h2\.js$/ },
  { filter: /\/zod\/v4\/classic\/from-json-schema\.js$/, exported: "fromJSONSchema" },
];

/** A module that may be loaded, named and compared with, and throws whenever it is to do something. */
function standIn(name, exported) {
  return `const leftOut = () => { throw new Error(${JSON.stringify(`${name} is left out of the bundle`)}); };
${exported === undefined ? "module.exports" : `export const ${exported}`} = new Proxy(function () {}, { apply: leftOut, construct: leftOut, get: (own, key) => (key in own || typeof key === "symbol" || key === "__esModule" ? own[key] : leftOut()) });`;
}

/** Native add-ons throw when they are loaded: that is how their packages find out. */
const absent = (name) => `throw new Error(${JSON.stringify(`${name} is left out of the bundle`)});`;

/** The plug-in of esbuild. `top` is the tree's directory. */
export function leaveOut(top) {
  return {
    name: "left-out",
    setup(b) {
      const exact = packages.map((name) => name.replaceAll("/", "\\/")).join("|");
      b.onResolve({ filter: new RegExp(`^(?:${exact})$|\\.node$`) }, ({ path }) => ({ path, namespace: "left-out" }));
      b.onLoad({ filter: /.*/, namespace: "left-out" }, ({ path }) => ({
        contents: path === "cpu-features" || path.endsWith(".node") ? absent(path) : standIn(path),
      }));
      for (const { filter, exported } of files) {
        b.onLoad({ filter }, ({ path }) => ({
          contents: standIn(relative(join(top, "node_modules"), path), exported),
        }));
      }
      // It prints requests with their logins where the variable DEBUG, which is everybody's, has the right word.
      b.onResolve({ filter: /^debug$/ }, ({ path }) => ({ path, namespace: "silent" }));
      b.onLoad({ filter: /.*/, namespace: "silent" }, () => ({
        contents: "module.exports = () => Object.assign(() => {}, { enabled: false });",
      }));
      // The languages of zod's messages, but for one.
      b.onResolve({ filter: /\/locales\/index\.js$/ }, (args) =>
        args.resolveDir.includes("/zod/")
          ? // Relative: where the tree lies must not show in the bundle.
            { path: relative(top, join(args.resolveDir, args.path)), namespace: "one-language" }
          : undefined,
      );
      b.onLoad({ filter: /.*/, namespace: "one-language" }, ({ path }) => ({
        contents: 'export { default as en } from "./en.js";',
        resolveDir: join(top, dirname(path)),
      }));
    },
  };
}
