import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterEach, expect, test } from "vitest";

const top = join(import.meta.dirname, "../..");

/** The output of a program of its own, as JSON: in this process other tests may have loaded whole packages already. */
function printed(module: "commonjs" | "module", text: string): string[] {
  const args = [`--input-type=${module}`, "--eval", text];
  return JSON.parse(execFileSync(process.execPath, args, { cwd: top, encoding: "utf8" }));
}

const leftOut = printed(
  "module",
  `import { packages } from "./scripts/left-out.mjs"; console.log(JSON.stringify(packages))`,
);

const undo: (() => void)[] = [];
afterEach(() => {
  for (const one of undo.splice(0)) one();
});

function sourceFiles(): string[] {
  return ["src", "executors", "shells"].flatMap((folder) =>
    readdirSync(join(top, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name) => join(top, folder, name)),
  );
}

test("no source imports what the bundle leaves out", () => {
  const imported = sourceFiles().flatMap((file) =>
    [...readFileSync(file, "utf8").matchAll(/(?:from|import|import\(|require\()\s*\(?["']([^."'][^"']*)["']/g)].map(
      (match) => match[1] ?? "",
    ),
  );
  expect(imported).toContain("dockerode");
  expect(leftOut.length).toBeGreaterThan(3);
  for (const name of leftOut) {
    expect(imported.filter((one) => one === name || one.startsWith(`${name}/`))).toEqual([]);
  }
});

test("no package in CommonJS is imported by a call: in the bundle its names would be lost", () => {
  const called = sourceFiles().flatMap((file) =>
    [...readFileSync(file, "utf8").matchAll(/(const \{[^}]*\}|\w+) = await import\("([^."][^"]*)"\)/g)].map(
      (match) => ({
        taken: match[1] ?? "",
        name: match[2] ?? "",
      }),
    ),
  );
  expect(called.map(({ name }) => name)).toContain("dockerode");
  const lost = called.filter(({ taken, name }) => {
    const { type, exports } = JSON.parse(readFileSync(join(top, "node_modules", name, "package.json"), "utf8"));
    const isModule = type === "module" || JSON.stringify(exports ?? "").includes('"import":');
    return !isModule && !/^const \{ default: \w+ \}$/.test(taken);
  });
  expect(lost).toEqual([]);
});

test("what is left out says so by its name when it is used after all", () => {
  // The directory lies in the tree, so that the packages are found.
  const dir = mkdtempSync(join(top, "dist/left-out-"));
  undo.push(() => rmSync(dir, { recursive: true }));
  const tries = leftOut.map(
    (name) => `try { const it = require("${name}"); new it({}); } catch (error) { said.push(error.message); }
try { require("${name}").load(); } catch (error) { said.push(error.message); }`,
  );
  writeFileSync(
    join(dir, "entry.mjs"),
    `import { fromJSONSchema } from "zod";
const said = [];
${tries.join("\n")}
for (const act of [() => fromJSONSchema({}), () => require("undici/lib/dispatcher/client-h2.js")(1)]) try { act(); } catch (error) { said.push(error.message); }
console.log(JSON.stringify(said));`,
  );
  const bundled = join(dir, "bundle.cjs");
  printed(
    "module",
    `import { build } from "esbuild"; import { leaveOut } from "./scripts/left-out.mjs";
await build({ entryPoints: [${JSON.stringify(join(dir, "entry.mjs"))}], outfile: ${JSON.stringify(bundled)}, bundle: true, platform: "node", preserveSymlinks: true, plugins: [leaveOut(process.cwd())] });
console.log("[]");`,
  );
  const said: string[] = JSON.parse(execFileSync(process.execPath, [bundled], { encoding: "utf8" }));
  const names = [
    ...leftOut.flatMap((name) => [name, name]),
    "zod/v4/classic/from-json-schema.js",
    "undici/lib/dispatcher/client-h2.js",
  ];
  expect(said).toEqual(names.map((name) => `${name} is left out of the bundle`));
});

/** Names of all methods of a class and of its parents. */
const methodsOf = (expression: string): Set<string> =>
  new Set(
    printed(
      "commonjs",
      `const names = []; for (let one = (${expression}).prototype; one !== null; one = Object.getPrototypeOf(one)) names.push(...Object.getOwnPropertyNames(one)); console.log(JSON.stringify(names))`,
    ),
  );

test("what the sources take from a package by module is what its index gives, or is not in its type", () => {
  const text = readFileSync(join(top, "src/coordinator/connection/undici-modules.d.ts"), "utf8");
  const untyped = /Omit<Whole, ([^>]+)>/.exec(text)?.[1]?.match(/\w+/g) ?? [];
  const there = methodsOf(`require("undici/lib/dispatcher/client.js")`);
  const missing = [...methodsOf(`require("undici").Client`)].filter((name) => !there.has(name));
  expect(missing.sort()).toEqual(untyped.sort());
  for (const name of ["Counter", "Gauge", "Histogram", "Registry"]) {
    const module = methodsOf(`require("prom-client/lib/${name.toLowerCase()}.js")`);
    expect([...methodsOf(`require("prom-client").${name}`)].filter((method) => !module.has(method))).toEqual([]);
  }
});

/** Names and bytes of the files that are loaded with a built one: those that it imports by statements, and so on. */
function loadedWith(file: string, found = new Map<string, string>()): Map<string, string> {
  if (found.has(file)) return found;
  const text = readFileSync(file, "utf8");
  found.set(file, text);
  for (const [, name = ""] of text.matchAll(/(?:^|[;}])(?:import|export)(?:[\w$*{}, ]*?from)?"(\.[^"]+)"/gm))
    loadedWith(join(dirname(file), name), found);
  return found;
}

const partNamed = (name: string): string => {
  const part = readdirSync(join(top, "dist/parts")).find((file) => file.startsWith(`${name}-`));
  return join(top, "dist/parts", part ?? `no part is named ${name}`);
};

test("a start reads what it uses, and no more", () => {
  const size = (files: Map<string, string>): number => [...files.values()].join("").length;
  const start = loadedWith(join(top, "dist/alloy-runner.mjs"));
  expect(size(start)).toBeLessThan(10_000);
  const all = readdirSync(join(top, "dist/parts")).map((file) => join(top, "dist/parts", file));
  const run = loadedWith(partNamed("run"));
  for (const file of [...loadedWith(partNamed("shell")).keys(), ...loadedWith(partNamed("program")).keys()])
    loadedWith(file, run);
  expect(run.size).toBeGreaterThan(10);
  expect(size(run)).toBeLessThan(1_850_000);
  // Each of these words is somewhere in the bundle, and is loaded only when an entry of config.toml, or `exec`, asks
  // for it.
  for (const word of [
    "docker.sock",
    "RE2JS",
    "serviceaccount",
    "ssh-userauth",
    "YAMLParseError",
    "Search the trace",
    "x-vault-request",
    "GOOG4-RSA-SHA256",
    "x-amz-meta-alloy",
  ]) {
    const inFiles = all.filter((file) => readFileSync(file, "utf8").includes(word));
    expect(inFiles, word).not.toEqual([]);
    expect(
      inFiles.filter((file) => run.has(file)),
      word,
    ).toEqual([]);
  }
});

test("commands for a running runner read nothing that speaks to coordinators", () => {
  const jobs = loadedWith(partNamed("control"));
  for (const name of ["program", "state-dir"])
    for (const file of loadedWith(partNamed(name)).keys()) loadedWith(file, jobs);
  // What checks an entry is none of theirs either, and a third of their time.
  const checks = "is known to GitLab Runner, not supported here";
  const all = readdirSync(join(top, "dist/parts")).map((file) => readFileSync(join(top, "dist/parts", file), "utf8"));
  expect(all.some((text) => text.includes(checks))).toBe(true);
  expect([...jobs.values()].join("")).not.toContain(checks);
  expect([...jobs.values()].join("")).not.toContain("UND_ERR_SOCKET");
  expect([...loadedWith(partNamed("context")).values()].join("")).toContain("UND_ERR_SOCKET");
});
