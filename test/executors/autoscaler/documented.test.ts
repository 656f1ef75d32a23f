import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { execProvider } from "../../../executors/autoscaler/providers/exec.ts";
import { never } from "../../../src/time.ts";

/** An `lxc` that knows as much as the program needs; its containers are files of `$LXC_DIR`. */
const LXC = `#!/bin/sh
cd "$LXC_DIR" || exit 1
case $1 in
list)
  [ "$2 $3" = "--format json" ] || exit 2
  sep='['
  for name in *; do
    [ -e "$name" ] || continue
    printf '%s{"name": "%s", "status": "Running", "state": {"network": {"lo": {"addresses": [{"family": "inet", "scope": "local",
      "address": "127.0.0.1"}]}, "eth0": {"addresses": [{"family": "inet", "scope": "global", "address": "10.9.8.7"}]}}}}' "$sep" "$name"
    sep=,
  done
  [ "$sep" = , ] && echo ']' || echo '[]' ;;
launch) echo "$2" >"$3" ;;
delete) [ "$2" = --force ] && rm "$3" ;;
esac
`;

test("the program of docs/instances.md makes, finds and removes instances, and leaves those of others alone", async () => {
  const text = readFileSync(new URL("../../../docs/instances.md", import.meta.url), "utf8");
  const [, program = ""] = /```python\n(.*?)```/s.exec(text) ?? [];
  const dir = mkdtempSync(join(tmpdir(), "alloy-lxd-"));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  for (const name of ["bin", "containers"]) mkdirSync(join(dir, name));
  for (const [name, content] of [
    ["provider", program],
    ["lxc", LXC],
  ]) {
    writeFileSync(join(dir, "bin", name ?? ""), content ?? "");
    chmodSync(join(dir, "bin", name ?? ""), 0o755);
  }
  writeFileSync(join(dir, "containers", "theirs"), "");
  const provider = execProvider(
    () => ({
      command: [join(dir, "bin", "provider")],
      config: { image: "ci-image", prefix: "ci-" },
      callMs: 10_000,
    }),
    { PATH: `${join(dir, "bin")}:${process.env.PATH}`, LXC_DIR: join(dir, "containers") },
  );
  await provider.init(never);
  expect(await provider.list(never)).toEqual([]);
  expect(await provider.grow(2, never)).toBe(2);
  const seen = await provider.list(never);
  expect(seen.map(({ state }) => state)).toEqual(["running", "running"]);
  const [first = { id: "" }, second = { id: "" }] = seen;
  expect(first.id).toMatch(/^ci-[0-9a-f]{12}$/);
  const connection = await provider.connect(first.id, never);
  expect(connection.internal).toEqual({ host: "10.9.8.7", port: null });
  await provider.check(first.id, connection, never);
  await provider.shrink([first.id, "theirs", "ci-unknown"], never);
  expect((await provider.list(never)).map(({ id }) => id)).toEqual([second.id]);
  await expect(provider.connect(first.id, never)).rejects.toThrow(/provider fails at "connect"/);
});
