// What binaries are made for, and which of Bun's runtimes each of them gets.

/** Target → name of Bun's package for it (`@oven/bun-…`). The order is that of the release page. */
export const targets = {
  "linux-x64": "linux-x64",
  "linux-arm64": "linux-aarch64",
  "linux-x64-musl": "linux-x64-musl",
  "linux-arm64-musl": "linux-aarch64-musl",
  "darwin-x64": "darwin-x64",
  "darwin-arm64": "darwin-aarch64",
  "windows-x64": "windows-x64",
  "freebsd-x64": "freebsd-x64",
};

/** The target of this machine, as Node names it. */
export const here = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;

/** Name of the file in `out/`. */
export function fileOf(target) {
  return `alloy-runner-${target}${target.startsWith("windows") ? ".exe" : ""}`;
}
