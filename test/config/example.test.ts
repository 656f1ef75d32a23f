import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { globalKeys, runnerKeys, sessionServerSchema, webSchema } from "../../src/config/check/schema.ts";
import { switches } from "../../src/feature-flags.ts";
import { read } from "./support.ts";

const example = await readFile(new URL("../../config.example.toml", import.meta.url), "utf8");

test("the example is valid as it stands", async () => {
  const { runners, warnings } = await read(example);
  expect(warnings).toEqual([]);
  expect(runners).toHaveLength(1);
});

test("every commented key of the example is valid too", async () => {
  const text = example.replace(/^( *)# ([a-z_-]+ = )/gm, "$1$2");
  const { warnings } = await read(text);
  expect(warnings).toEqual([]);
});

test("defaults that the example shows are the defaults", async () => {
  const config = await read(example);
  const shown = await read(
    example.replace(
      /^( *)# ((?:check_interval|shutdown_timeout|connection_max_age|min_free_disk|outbox_max_age|min_free_inodes|max_\w+_pressure|max_weight|max_system_failures|failure_pause|weight|limit|request_concurrency|output_limit|kill_leftovers|durable|git_ssl_no_verify|rotate_token|debug_trace_disabled|strict_check_interval|unhealthy_\w+) = )/gm,
      "$1$2",
    ),
  );
  const plain = (value: unknown): unknown =>
    JSON.parse(
      JSON.stringify(value, (key, each) =>
        // Whether it is said, too, and in which words, is no default.
        ["fingerprint", "written", "durableAsked"].includes(key) ? undefined : each,
      ),
    );
  expect(plain(shown)).toEqual(plain(config));
});

test("the flags that count stand in the example and in their page, all of them and no others", async () => {
  const page = await readFile(new URL("../../docs/feature-flags.md", import.meta.url), "utf8");
  const flagsOf = (text: string, row: RegExp): string[] => [...text.matchAll(row)].map(([, name = ""]) => name).sort();
  const counted = Object.keys(switches).sort();
  expect(flagsOf(page, /^\| `(FF_\w+)` /gm)).toEqual(counted);
  expect(flagsOf(example, /^ *# +(FF_\w+) = /gm)).toEqual(counted);
});

test("every key stands in the example", () => {
  for (const key of Object.keys(webSchema.shape))
    expect(example).toMatch(new RegExp(`^\\[web\\](?:\\n.*)*\\n  # ${key} = `, "m"));
  for (const key of Object.keys(sessionServerSchema.shape))
    expect(example).toMatch(new RegExp(`^\\[session_server\\](?:\\n.*)*\\n  # ${key} = `, "m"));
  const tolerated = [
    "feature_flags",
    "id",
    "token_obtained_at",
    "token_expires_at",
    "cache",
    "admission",
    "housekeeping",
    "artifact",
    "labels",
    "monitoring",
  ];
  for (const key of [...globalKeys, ...runnerKeys]) {
    if (!["runners", "web", "session_server"].includes(key) && !tolerated.includes(key))
      expect(example).toMatch(new RegExp(`^ *(?:# )?${key} = `, "m"));
  }
});
