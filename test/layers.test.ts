import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { expect, test } from "vitest";

const top = join(import.meta.dirname, "..");

/** Everybody may import these files; they import one another, zod and node. */
const contracts = [
  "src/executor/deps.ts",
  "src/executor/environment.ts",
  "src/executor/executor.ts",
  "src/executor/keeping.ts",
  "src/executor/prepare.ts",
  "src/executor/words.ts",
  "src/workspace.ts",
  "src/files/tar.ts",
  "src/files/tar-fields.ts",
  "src/files/byte-reader.ts",
  "src/files/tidy.ts",
  "src/shell.ts",
  "src/errors.ts",
  "src/time.ts",
  "src/log.ts",
  "src/native.ts",
  "src/feature-flags.ts",
  "src/job/job.ts",
  "src/board/contract.ts",
  "src/coordinator/contract.ts",
  "src/session/contract.ts",
  "src/trace/contract.ts",
  "src/trace/lines.ts",
  "src/journal/contract.ts",
  "src/config/config.ts",
  "src/files/remove-tree.ts",
  "src/files/trusted-path.ts",
];

/** Where commands, executors and shells meet. */
const composition = ["src/main.ts", "src/agent/"];

/** Place → what it may import besides contracts and itself. The first row that fits a file holds. */
const rules: readonly (readonly [place: string, mayImport: readonly string[]])[] = [
  ...composition.map((place) => [place, [""]] as const),
  [
    "src/commands/",
    [
      "src/config/",
      "src/coordinator/",
      "src/poll/",
      "src/local/",
      "src/journal/",
      "src/job/life/received.ts",
      "src/metrics/",
      "src/proxy/",
      "src/control/",
      "src/web/",
      "src/board/",
      "src/tokens/",
      "src/notify.ts",
      "src/version.ts",
    ],
  ],
  ["src/poll/", ["src/job/", "src/config/", "src/coordinator/", "src/metrics/"]],
  ["src/tokens/", ["src/config/", "src/coordinator/", "src/journal/records/synced-file.ts"]],
  ["src/job/", ["src/trace/", "src/transfer/", "src/coordinator/", "src/journal/", "src/secrets/resolve.ts"]],
  ["src/cloud/", ["src/coordinator/"]],
  ["src/secrets/", ["src/cloud/"]],
  ["src/trace/", ["src/coordinator/"]],
  ["src/transfer/", ["src/coordinator/", "src/config/units.ts", "src/cloud/"]],
  ["src/journal/", ["src/trace/", "src/coordinator/"]],
  ["src/local/", ["src/config/"]],
  ["src/config/", ["src/serving/address.ts", "src/periods.ts"]],
  ["src/board/", []],
  ["src/coordinator/", ["src/proxy/", "src/go-words.ts"]],
  ["src/proxy/", []],
  ["src/control/", ["src/serving/", "src/board/", "src/trace/stamp/", "src/trace/mask/utf8.ts"]],
  ["src/metrics/", ["src/serving/", "src/go-words.ts", "src/cloud/meter.ts"]],
  ["src/session/", ["src/serving/"]],
  ["src/web/page/", ["src/web/shown.ts", "src/control/protocol.ts", "src/control/words.ts"]],
  ["src/web/", ["src/serving/", "src/control/"]],
  ["src/", []],
  ["executors/index.ts", ["executors/"]],
  ["executors/absent.ts", []],
  ["executors/images/", ["executors/remote/index.ts"]],
  ["executors/docker/", ["executors/common/", "executors/images/", "executors/remote/", "src/config/units.ts"]],
  [
    "executors/docker-ssh/",
    ["executors/common/", "executors/images/", "executors/docker/", "executors/ssh/", "executors/remote/"],
  ],
  [
    "executors/kubernetes/",
    [
      "executors/common/",
      "executors/images/",
      "executors/remote/",
      "src/config/units.ts",
      "src/proxy/",
      "src/version.ts",
    ],
  ],
  ["executors/scaler/", ["executors/common/", "src/periods.ts"]],
  [
    "executors/docker-machine/",
    ["executors/common/", "executors/images/", "executors/docker/", "executors/scaler/", "src/config/units.ts"],
  ],
  [
    "executors/docker-ssh-machine/",
    ["executors/docker/", "executors/docker-machine/", "executors/docker-ssh/", "executors/ssh/"],
  ],
  [
    "executors/autoscaler/",
    [
      "executors/common/",
      "executors/scaler/",
      "executors/remote/",
      "executors/ssh/",
      "src/config/units.ts",
      "src/cloud/aws/",
    ],
  ],
  [
    "executors/instance/",
    ["executors/common/", "executors/scaler/", "executors/autoscaler/", "executors/remote/", "executors/ssh/"],
  ],
  [
    "executors/docker-autoscaler/",
    [
      "executors/common/",
      "executors/scaler/",
      "executors/autoscaler/",
      "executors/instance/",
      "executors/docker/",
      "executors/remote/",
      "executors/ssh/",
    ],
  ],
  ["executors/remote/", ["executors/common/"]],
  ["executors/common/", []],
  ["executors/shell/", ["executors/common/"]],
  ["executors/ssh/", ["executors/common/", "executors/remote/"]],
  ["executors/custom/", ["executors/common/", "executors/remote/"]],
  [
    "executors/virtual-machine/",
    ["executors/common/", "executors/remote/", "executors/ssh/", "executors/shell/places/host-claims.ts"],
  ],
  ["executors/virtualbox/", ["executors/virtual-machine/", "executors/ssh/"]],
  ["executors/parallels/", ["executors/virtual-machine/", "executors/ssh/"]],
  ["shells/", []],
];

/**
 * Rooms with doors: files outside of a room import only its doors, so that the rest of it can change. The other rooms
 * (`executors/common`, `executors/images`, and those of `src/`) are open to whoever the table above lets in.
 */
const doors: Readonly<Record<string, readonly string[]>> = {
  // The program starts itself again as the process that reaches files of another account.
  "executors/shell/": ["index.ts", "words.ts", "files/server.ts", "launch/own-program.ts", "places/host-claims.ts"],
  "executors/remote/": ["index.ts"],
  "executors/ssh/": ["index.ts", "words.ts", "over-ssh.ts"],
  "executors/docker/": ["index.ts", "words.ts", "own-command.ts"],
  "executors/docker-ssh/": ["index.ts", "words.ts"],
  "executors/docker-machine/": ["index.ts", "words.ts"],
  "executors/docker-ssh-machine/": ["index.ts", "words.ts"],
  "executors/scaler/": ["index.ts"],
  "executors/autoscaler/": ["index.ts"],
  "executors/instance/": ["index.ts", "words.ts"],
  "executors/docker-autoscaler/": ["index.ts", "words.ts"],
  "executors/custom/": ["index.ts", "words.ts"],
  "executors/kubernetes/": ["index.ts", "words.ts"],
  "executors/virtualbox/": ["index.ts", "words.ts"],
  "executors/parallels/": ["index.ts", "words.ts"],
};

function files(folder: string): string[] {
  return readdirSync(join(top, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => /\.tsx?$/.test(name))
    .map((name) => `${folder}/${name}`);
}

/** Repository-relative paths of what `file` imports from this repository, and the names of what it imports from elsewhere. */
function importsOf(file: string): { own: string[]; foreign: string[] } {
  const text = readFileSync(join(top, file), "utf8");
  const names = [...text.matchAll(/(?:from|import|import\()\s*\(?["']([^"']+)["']/g)].flatMap(
    (match) => match[1] ?? [],
  );
  const own = names.filter((name) => name.startsWith(".")).map((name) => normalize(join(dirname(file), name)));
  return { own, foreign: names.filter((name) => !name.startsWith(".")) };
}

const sources = ["src", "executors", "shells"].flatMap(files);

test("every import keeps to its layer", () => {
  const broken: string[] = [];
  for (const file of sources) {
    const rule = rules.find(([place]) => file.startsWith(place));
    expect(rule, `${file} has no layer`).toBeDefined();
    const [place, mayImport] = rule ?? ["", []];
    for (const imported of importsOf(file).own) {
      const allowed =
        contracts.includes(imported) ||
        (place !== "src/" && imported.startsWith(place)) ||
        mayImport.some((prefix) => imported.startsWith(prefix));
      if (!allowed) broken.push(`${file} imports ${imported}`);
    }
  }
  expect(broken).toEqual([]);
});

test("a room is entered by its doors", () => {
  const through = sources.flatMap((file) =>
    importsOf(file).own.flatMap((imported) => {
      const [room, open = []] = Object.entries(doors).find(([place]) => imported.startsWith(place)) ?? [];
      if (room === undefined || file.startsWith(room) || open.some((door) => imported === room + door)) return [];
      return [`${file} imports ${imported}`];
    }),
  );
  expect(through).toEqual([]);
});

test("contracts import only contracts, zod and node", () => {
  const broken = contracts.flatMap((file) => {
    const { own, foreign } = importsOf(file);
    return [
      ...own.filter((name) => !contracts.includes(name)),
      ...foreign.filter((name) => name !== "zod" && !name.startsWith("node:")),
    ].map((name) => `${file} imports ${name}`);
  });
  expect(broken.filter((line) => !line.startsWith("src/log.ts imports pino"))).toEqual([]);
});

test("shell writers see nothing but their contract", () => {
  for (const file of files("shells")) {
    const { own, foreign } = importsOf(file);
    expect(foreign, file).toEqual([]);
    expect(
      own.filter((name) => name !== "src/shell.ts" && !name.startsWith("shells/")),
      file,
    ).toEqual([]);
  }
});

test("only the composition root imports executors and shells", () => {
  const broken = files("src")
    .filter((file) => !composition.some((place) => file.startsWith(place)))
    .filter((file) => importsOf(file).own.some((name) => name.startsWith("executors/") || name.startsWith("shells/")));
  expect(broken).toEqual([]);
});

test("no file comes round to itself by its imports", () => {
  const imports = new Map(sources.map((file) => [file, importsOf(file).own.filter((name) => sources.includes(name))]));
  const done = new Set<string>();
  const circles: string[] = [];
  const walk = (file: string, path: readonly string[]): void => {
    const begun = path.indexOf(file);
    if (begun >= 0) circles.push([...path.slice(begun), file].join(" → "));
    if (begun >= 0 || done.has(file)) return;
    for (const next of imports.get(file) ?? []) walk(next, [...path, file]);
    done.add(file);
  };
  for (const file of sources) walk(file, []);
  expect(circles).toEqual([]);
});
