import { mkdir, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { LARGEST_KNOWN_HOSTS_BYTES, openHostKeyCheck } from "../../executors/ssh/connection/host-key.ts";
import { MOST_VALUES } from "../../src/config/file/layout.ts";
import { LARGEST_FILE_BYTES, readToml } from "../../src/config/file/toml.ts";
import { loadConfig } from "../../src/config/load.ts";
import { LARGEST_RECORD_BYTES } from "../../src/journal/state/leftovers.ts";
import { parseOptions } from "../config/support.ts";
import { openState, recordingLog, temporaryDirectory } from "../journal/support.ts";
import { bytes, type Case, count, refusal } from "./support.ts";

/** A sparse file of this size, which takes no room on the disk. */
async function fileOf(size: number, name = "file"): Promise<string> {
  const path = join(await temporaryDirectory(), name);
  await writeFile(path, "");
  await truncate(path, size);
  return path;
}

export const cases: Readonly<Record<string, Case>> = {
  "file.config": {
    bound: bytes(LARGEST_FILE_BYTES),
    async beyond() {
      const path = await fileOf(LARGEST_FILE_BYTES + 1, "config.toml");
      return await refusal(() =>
        loadConfig(path, { ...parseOptions(), workingDirectory: join(path, ".."), usualConfigFile: path }),
      );
    },
  },
  "file.config.values": {
    bound: count(MOST_VALUES),
    beyond: () => refusal(() => readToml(`a = [${"0,".repeat(MOST_VALUES + 1)}]`, "config.toml")),
  },
  "file.known_hosts": {
    bound: bytes(LARGEST_KNOWN_HOSTS_BYTES),
    async beyond() {
      const known = await fileOf(LARGEST_KNOWN_HOSTS_BYTES + 1);
      const credentials = {
        password: undefined,
        identityFile: undefined,
        passphrase: undefined,
        agentSocket: undefined,
      };
      const hostKeys = { fingerprints: [], any: false, knownHostsFiles: [known] };
      return await refusal(async () => {
        try {
          await openHostKeyCheck({ host: "example.com", port: 22, user: "u", hostKeys, credentials });
        } catch (error) {
          throw error instanceof Error ? error.cause : error;
        }
      });
    },
  },
  "file.record": {
    bound: bytes(LARGEST_RECORD_BYTES),
    async beyond() {
      const state = await temporaryDirectory();
      const dir = join(state, "jobs", "7e3b05c2-1-abc");
      await mkdir(dir, { recursive: true });
      await writeFile(join(dir, "record"), "");
      await truncate(join(dir, "record"), LARGEST_RECORD_BYTES + 1);
      const log = recordingLog();
      await openState(state, log);
      return log.lines.join(" ");
    },
  },
};
