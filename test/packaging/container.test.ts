import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";

const top = join(import.meta.dirname, "../..");

/** The instructions with their lines joined and comments left out. */
function instructions(): [string, string][] {
  const text = readFileSync(join(top, "packaging/Containerfile"), "utf8");
  const lines = text
    .split("\n")
    .filter((line) => !line.startsWith("#") && line.trim() !== "")
    .join("\n")
    .replaceAll(/\\\n\s*/g, " ")
    .split("\n");
  return lines.map((line) => [line.split(" ")[0] ?? "", line.slice(line.indexOf(" ") + 1)]);
}

test("the image's definition starts the runner under an init, drains on stop, and copies what is there", () => {
  const found = instructions();
  const only = (name: string): string =>
    found
      .filter(([one]) => one === name)
      .map(([, rest]) => rest)
      .join("\n");
  expect(JSON.parse(only("ENTRYPOINT"))).toEqual(["tini", "--", "container-start"]);
  expect(only("STOPSIGNAL")).toBe("SIGQUIT");
  expect(JSON.parse(only("VOLUME"))).toContain("/etc/alloy-runner");
  expect(found.every(([name]) => /^(ARG|FROM|RUN|COPY|VOLUME|STOPSIGNAL|ENTRYPOINT|CMD)$/.test(name))).toBe(true);
  const built = readFileSync(join(top, "package.json"), "utf8");
  expect(built).toContain('"binary"');
  for (const [name, rest] of found) {
    if (name === "RUN") execFileSync("sh", ["-n", "-c", rest]);
    if (name !== "COPY" || rest.startsWith("--from=")) continue;
    for (const source of rest.split(" ").slice(0, -1)) {
      if (!source.startsWith("out/")) expect(statSync(join(top, source)).isFile()).toBe(true);
    }
  }
});

test("the start script leaves out the change of account where it is not root", () => {
  const dir = mkdtempSync(join(tmpdir(), "alloy-container-"));
  try {
    writeFileSync(join(dir, "alloy-runner"), '#!/bin/sh\necho "$@"\n', { mode: 0o755 });
    writeFileSync(join(dir, "id"), "#!/bin/sh\necho 1000\n", { mode: 0o755 });
    const start = (...args: string[]): string =>
      execFileSync(join(top, "packaging/container-start"), args, {
        encoding: "utf8",
        env: { PATH: `${dir}:${process.env.PATH}` },
      }).trim();
    expect(start("run", "--user=alloy-runner", "--working-directory=/home/alloy-runner")).toBe(
      "run --working-directory=/home/alloy-runner",
    );
    expect(start("register", "--help")).toBe("register --help");
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
