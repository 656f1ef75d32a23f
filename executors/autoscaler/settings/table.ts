import { z } from "zod";
import { count, durationOr, unlimited } from "./fields.ts";
import { readPlugin } from "./plugin.ts";
import { policyTable } from "./policy.ts";

const SSH_PORT = 22;

const connector = z
  .object({
    os: z.string().default(""),
    protocol: z.string().default(""),
    protocol_port: z.int().min(0).max(65_535).default(0),
    username: z.string().default(""),
    password: z.string().default(""),
    key_path: z.string().default(""),
    use_static_credentials: z.boolean().default(false),
    use_external_addr: z.boolean().default(false),
    keepalive: durationOr(15_000),
    timeout: durationOr(600_000),
  })
  .transform((table, context) => {
    const refuse = (key: string, message: string): void => {
      context.addIssue({ code: "custom", path: [key], message });
    };
    if (/^winrm/i.test(table.protocol)) {
      refuse("protocol", "WinRM is not supported: instances are reached over SSH. Remove it, and let sshd run there");
    } else if (!/^(?:ssh)?$/i.test(table.protocol)) refuse("protocol", 'has to be "ssh"');
    if (/^windows$/i.test(table.os)) {
      refuse("os", "Windows is not supported: jobs need a POSIX shell on their instance");
    }
    if (table.use_static_credentials && table.key_path === "" && table.password === "") {
      refuse("use_static_credentials", "needs key_path or password beside it");
    }
    return {
      port: table.protocol_port || SSH_PORT,
      user: table.username || undefined,
      password: table.password || undefined,
      /** As it was written. */
      keyFile: table.key_path || undefined,
      /** Nothing but these credentials is tried. */
      fixed: table.use_static_credentials,
      external: table.use_external_addr,
      keepAliveMs: table.keepalive,
      /** Until a new instance has to let us in. */
      patienceMs: table.timeout,
    };
  });

export type Connector = z.output<typeof connector>;

const PER_SECOND = 100;

const throttle = z.object({ limit: z.number().default(0), burst: count.default(0) }).default({ limit: 0, burst: 0 });

/** Those that were checked. */
const tables = new WeakSet<object>();

/** `[runners.autoscaler]`, with GitLab Runner's names. */
export const autoscalerTable = z
  .object({
    plugin: z.string(),
    plugin_config: z.record(z.string(), z.unknown()).default({}),
    connector_config: connector.default(connector.parse({})),
    capacity_per_instance: count.default(0),
    max_use_count: unlimited,
    max_instances: unlimited,
    update_interval: durationOr(60_000),
    update_interval_when_expecting: durationOr(2_000),
    instance_ready_command: z.string().default(""),
    instance_acquire_timeout: durationOr(900_000),
    failure_threshold: count.default(0),
    deletion_retry_interval: durationOr(60_000),
    delete_instances_on_shutdown: z.boolean().default(false),
    scale_throttle: throttle,
    log_internal_ip: z.boolean().default(false),
    log_external_ip: z.boolean().default(false),
    policy: z.array(policyTable).default([]),
    vm_isolation: z
      .object({ enabled: z.boolean().default(false) })
      .default({ enabled: false })
      .refine(({ enabled }) => !enabled, "is not supported: jobs would not be apart as it says. Remove it"),
  })
  .transform(({ plugin, plugin_config, ...rest }, context) => {
    const table = { ...rest, plugin: readPlugin({ plugin, plugin_config }, context) };
    tables.add(table);
    return table;
  });

export type AutoscalerTable = z.output<typeof autoscalerTable>;

/** Creations a second, and at once; `null`: any number. */
export function throttleOf({ scale_throttle: { limit, burst }, max_instances: most }: AutoscalerTable) {
  if (limit < 0) return null;
  const perSecond = limit || PER_SECOND;
  return { perSecond, burst: burst || (Number.isFinite(most) ? most : Math.max(1, Math.ceil(perSecond))) };
}

/** What was checked comes back as it is; `null`: the entry is gone from the configuration. */
export function tableOf(value: unknown): AutoscalerTable | null {
  if (value === undefined) return null;
  const known = checked.safeParse(value);
  return known.success ? known.data : autoscalerTable.parse(value);
}

const checked = z.custom<AutoscalerTable>((value) => typeof value === "object" && value !== null && tables.has(value));

/** Programs of this machine that it names. */
export function programsOf({ autoscaler }: Readonly<Record<string, unknown>>) {
  const plugin = tableOf(autoscaler)?.plugin;
  if (plugin?.name !== "exec") return [];
  const [program = ""] = plugin.settings.command;
  return [{ table: "autoscaler", key: "plugin_config", program }];
}
