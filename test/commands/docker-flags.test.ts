import { Command } from "commander";
import { expect, test } from "vitest";
import { moreRows } from "../../executors/docker/settings/more-flags.ts";
import { dockerTable, tableShape } from "../../executors/docker/settings/settings.ts";
import { executors } from "../../executors/index.ts";
import { normalizeArguments } from "../../src/commands/arguments.ts";
import { addRunnerFlags } from "../../src/commands/options.ts";
import { entryKeys } from "../../src/commands/register/runner-flags.ts";

/** `[runners.docker]` as `register` writes it for these words. */
function docker(...argv: readonly string[]): unknown {
  const command = addRunnerFlags(new Command("register").exitOverride(), executors.words);
  const names = new Set(command.options.flatMap(({ long }) => long?.slice(2) ?? []));
  command.parse(normalizeArguments(argv, names), { from: "user" });
  const keys = entryKeys(command.opts(), executors.words, "docker").docker;
  return typeof keys === "object" && !Array.isArray(keys) ? { ...keys, volumes: undefined } : keys;
}

const SAMPLES: Record<string, string> = {
  "oom-score-adjust": "-500",
  "services-devices": "db:*=/dev/kvm",
  "service-cpus": "1/2",
  "service-cpuset-cpus": "0-1",
  "service-gpus": "all",
  "service-memory": "1g",
  "service-memory-swap": "-1",
  "service-memory-reservation": "512m",
  ulimit: "nofile=1024:2048",
  "log-options": "max-size=10m",
};
const WITHOUT_EFFECT = ["isolation", "helper_image_flavor", "service_slot_cgroup_template"];

test("each flag of GitLab Runner for docker fills a key that the table takes", () => {
  for (const [flag, , key, kind] of moreRows) {
    const value =
      SAMPLES[flag] ??
      { integer: "7", boolean: "true", table: "name=value", text: "word", list: "word", lists: "" }[kind];
    const table = docker(`--docker-${flag}=${value}`);
    expect(table).toHaveProperty([key]);
    expect(dockerTable.parse(table)).toBeDefined();
    if (!WITHOUT_EFFECT.includes(key)) expect(Object.keys(tableShape)).toContain(key);
  }
});

test("names with underscores count, after one dash, too", () => {
  expect(docker("--docker-services_privileged=false")).toEqual({ services_privileged: false });
  expect(docker("-docker-allowed_users", "1000", "--docker-allowed-users=1001")).toEqual({
    allowed_users: ["1000", "1001"],
  });
});

test("tables are pairs or JSON, and tables of lists gather what comes again", () => {
  expect(docker("--docker-ulimit", "nofile=1024:2048", "--docker-ulimit", "nproc:64")).toEqual({
    ulimit: { nofile: "1024:2048", nproc: "64" },
  });
  expect(docker("--docker-container-labels", '{"a":"1","b":2}')).toEqual({ container_labels: { a: "1", b: "2" } });
  const devices = ["docker:27=/dev/kvm", "docker:27=/dev/fuse", '{"db":["/dev/nvme0"]}'];
  expect(docker(...devices.flatMap((one) => ["--docker-services_devices", one]))).toEqual({
    services_devices: { "docker:27": ["/dev/kvm", "/dev/fuse"], db: ["/dev/nvme0"] },
  });
  expect(() => docker("--docker-services_devices", '{"db":"/dev/nvme0"}')).toThrow(
    '--docker-services-devices must be a JSON object such as {"name":["value"]}',
  );
  expect(() => docker("--docker-ulimit", "{nofile")).toThrow("must be a JSON object");
});
