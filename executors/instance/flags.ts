import type { EntryFlag } from "../../src/executor/words.ts";

type Row = readonly [flag: string, key: string, kind: EntryFlag["kind"], help: string];

const rows: readonly Row[] = [
  ["plugin", "plugin", "text", "where instances come from: exec (a program of yours) or static (a list of hosts)"],
  ["plugin-config", "plugin_config", "table", "a setting of the plugin, key:value; may be repeated"],
  ["capacity-per-instance", "capacity_per_instance", "integer", "jobs at once on an instance"],
  ["max-use-count", "max_use_count", "integer", "jobs that an instance gets before it is removed; 0: any number"],
  ["max-instances", "max_instances", "integer", "instances at most, of any state; 0: any number"],
  ["instance-ready-command", "instance_ready_command", "text", "command that a new instance has to pass"],
  ["instance-acquire-timeout", "instance_acquire_timeout", "text", "longest that a job waits for an instance"],
  ["update-interval", "update_interval", "text", "time between two looks at all instances"],
  ["delete-instances-on-shutdown", "delete_instances_on_shutdown", "boolean", "idle instances go with the runner"],
  ["connector-config-username", "connector_config.username", "text", "account that jobs run under there"],
  ["connector-config-key-path", "connector_config.key_path", "text", "private key to log in with"],
];

/** For `[runners.autoscaler]`. */
export const autoscalerFlags: readonly EntryFlag[] = rows.map(([flag, key, kind, help]) => ({
  flag: `autoscaler-${flag}`,
  env: `AUTOSCALER_${flag.toUpperCase().replaceAll("-", "_")}`,
  key: `autoscaler.${key}`,
  kind,
  help,
}));
