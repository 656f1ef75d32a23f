import { resolve } from "node:path";
import { z } from "zod";
import { homeDirectory } from "../../../common/places/home.ts";
import type { AwsSettings } from "./aws.ts";

const path = z
  .string()
  .optional()
  .transform((text) => text || undefined);

/** `[runners.autoscaler.plugin_config]` of `plugin = "aws"`, with the names of fleeting-plugin-aws. */
export const awsConfig = z.strictObject({
  name: z
    .string({ error: "is missing: the name of an Auto Scaling group" })
    .min(1, "is empty: it is the name of an Auto Scaling group"),
  profile: path,
  config_file: path,
  credentials_file: path,
});

export type AwsConfig = z.output<typeof awsConfig>;

/** With absolute paths. */
export function awsSettings(config: AwsConfig, workingDirectory: string): AwsSettings {
  const absolute = (text: string | undefined): string | undefined =>
    text === undefined ? undefined : resolve(workingDirectory, text.replace(/^~(?=\/|$)/, homeDirectory()));
  return {
    group: config.name,
    profile: config.profile,
    configFile: absolute(config.config_file),
    credentialsFile: absolute(config.credentials_file),
  };
}
