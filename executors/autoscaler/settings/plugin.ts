import { createHash } from "node:crypto";
import { z } from "zod";
import { type AwsConfig, awsConfig } from "../providers/aws/settings.ts";
import type { ExecSettings } from "../providers/exec.ts";
import { type InstanceConnection, parseAddress } from "../providers/instance.ts";
import { durationOr, fingerprint } from "./fields.ts";

/** Where instances come from, as `plugin` and `plugin_config` say it. */
export type Plugin =
  | { readonly name: "exec"; readonly settings: ExecSettings }
  | { readonly name: "static"; readonly hosts: ReadonlyMap<string, InstanceConnection> }
  | { readonly name: "aws"; readonly config: AwsConfig };

/** What has another origin has nothing to do with the instances of this one. */
export function originOf(plugin: Plugin): string {
  if (plugin.name !== "aws") return plugin.name;
  const { name, profile = "", config_file = "", credentials_file = "" } = plugin.config;
  const which = JSON.stringify([name, profile, config_file, credentials_file]);
  return `aws-${createHash("sha256").update(which).digest("hex").slice(0, 8)}`;
}

const CALL_MS = 60_000;

const command = z.union([z.string(), z.array(z.string())], {
  error: 'names no program. Write command = ["/opt/cloud/provider"]',
});

const execConfig = z
  .looseObject({ command, call_timeout: durationOr(CALL_MS) })
  .transform(({ command: given, call_timeout: callMs, ...config }, context): Plugin => {
    const words = typeof given === "string" ? [given] : given;
    if ((words[0] ?? "").trim() === "") {
      context.addIssue({ code: "custom", path: ["command"], message: "names no program" });
    }
    return { name: "exec", settings: { command: words, config, callMs } };
  });

const address = z.string().transform((text, context) => {
  const parsed = parseAddress(text);
  if (parsed !== null) return parsed;
  context.addIssue({ code: "custom", message: "expected an address: host, or host:port" });
  return z.NEVER;
});

const host = z
  .strictObject({
    username: z.string().min(1).optional(),
    password: z.string().optional(),
    key_path: z.string().min(1).optional(),
    host_key_fingerprint: z.union([fingerprint, z.array(fingerprint)]).default([]),
    internal_addr: address.optional(),
    external_addr: address.optional(),
    // Go's plugin has it; here the connector's holds for all.
    timeout: z.unknown().optional(),
  })
  .refine(
    (given) => given.internal_addr !== undefined || given.external_addr !== undefined,
    "has no address: set internal_addr",
  )
  .transform(
    (given): InstanceConnection => ({
      internal: given.internal_addr ?? null,
      external: given.external_addr ?? null,
      user: given.username,
      password: given.password,
      key: undefined,
      keyFile: given.key_path,
      hostKeys: [given.host_key_fingerprint].flat(),
      expires: undefined,
    }),
  );

const staticConfig = z
  .strictObject({
    instances: z
      .record(z.string().min(1), host)
      .refine(
        (hosts) => Object.keys(hosts).length > 0,
        "names no host. Write [runners.autoscaler.plugin_config.instances.NAME]",
      ),
  })
  .transform(({ instances }): Plugin => ({ name: "static", hosts: new Map(Object.entries(instances)) }));

const configs = {
  exec: execConfig,
  static: staticConfig,
  aws: awsConfig.transform((config): Plugin => ({ name: "aws", config })),
};
const isKnown = (name: string): name is keyof typeof configs => Object.hasOwn(configs, name);

/** `aws:latest`, `registry.gitlab.com/gitlab-org/fleeting/plugins/aws:1.5`, `fleeting-plugin-aws`: they are all `aws`. */
function plainName(text: string): string {
  return text
    .trim()
    .replace(/^.*\//, "")
    .replace(/:[^:]*$/, "")
    .replace(/^fleeting-plugin-/, "");
}

/** The keys `plugin` and `plugin_config`; complaints name them. */
export function readPlugin(
  { plugin, plugin_config: config }: { readonly plugin: string; readonly plugin_config: unknown },
  context: z.RefinementCtx,
): Plugin {
  const name = plainName(plugin);
  if (!isKnown(name)) {
    const message = `has to be "aws", "exec" or "static": other fleeting plugins cannot be used. With "exec" a program of yours speaks to any cloud: see docs/autoscaling.md`;
    context.addIssue({ code: "custom", path: ["plugin"], message });
    return z.NEVER;
  }
  const parsed = configs[name].safeParse(config);
  if (parsed.success) return parsed.data;
  for (const { path, message } of parsed.error.issues) {
    context.addIssue({ code: "custom", path: ["plugin_config", ...path], message });
  }
  return z.NEVER;
}
