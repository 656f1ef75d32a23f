import { defaultProvider } from "@aws-sdk/credential-provider-node";
import { fromTokenFile } from "@aws-sdk/credential-provider-web-identity";
import {
  loadConfig,
  NODE_REGION_CONFIG_FILE_OPTIONS,
  NODE_REGION_CONFIG_OPTIONS,
  type SharedConfigInit,
} from "@smithy/core/config";
import { describeError, SystemFailure } from "../../errors.ts";
import { unlessAborted } from "../../time.ts";
import { keepUntil } from "../expiring.ts";

/** Where keys and region are, as AWS's own tools have it: in the environment, in files, at the cloud. */
export interface AwsLogin {
  readonly profile: string | undefined;
  /** Absolute; by default those of this account. */
  readonly configFile: string | undefined;
  readonly credentialsFile: string | undefined;
  /** What to set where there are none: `AWS_ACCESS_KEY_ID and …`. */
  readonly advice: string;
}

export interface AwsKeys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** How long keys last of which nobody says it. */
const UNSAID_LIFE_MS = 15 * 60_000;

function keysIn(env: Environment): AwsKeys | undefined {
  const accessKeyId = env.AWS_ACCESS_KEY_ID || env.AWS_ACCESS_KEY;
  const secretAccessKey = env.AWS_SECRET_ACCESS_KEY || env.AWS_SECRET_KEY;
  if (!accessKeyId || !secretAccessKey) return undefined;
  return { accessKeyId, secretAccessKey, sessionToken: env.AWS_SESSION_TOKEN || undefined };
}

/**
 * Keys as AWS's own libraries find them, roles, SSO and programs included; asked for anew before they end. A file of its own, because the
 * names of a package in CommonJS are lost in the bundle where the package itself is imported by a call.
 */
export function openLogin({ profile, configFile, credentialsFile, advice }: AwsLogin) {
  const files: SharedConfigInit = {
    ...(configFile === undefined ? {} : { configFilepath: configFile }),
    ...(credentialsFile === undefined ? {} : { filepath: credentialsFile }),
  };
  const chosen = profile === undefined ? {} : { profile };
  const elsewhere = defaultProvider({ ...files, ...chosen });
  // The file is read anew each time: who made it replaces it before it ends.
  const lent = keepUntil(async () => {
    const keys = await fromTokenFile(files)();
    return { keys, lifeMs: keys.expiration === undefined ? UNSAID_LIFE_MS : keys.expiration.getTime() - Date.now() };
  });
  // As with GitLab Runner, whose library is Go's: there the environment comes before AWS_PROFILE, and a service account of EKS
  // before the profiles that happen to be on the machine.
  const keys = async (): Promise<AwsKeys> => {
    const { env } = process;
    if (profile === undefined) {
      const given = keysIn(env);
      if (given !== undefined) return given;
      if (env.AWS_WEB_IDENTITY_TOKEN_FILE && env.AWS_ROLE_ARN) return (await lent()).keys;
    }
    return await elsewhere();
  };
  const region = loadConfig<string>(
    { ...NODE_REGION_CONFIG_OPTIONS, default: () => "" },
    { ...NODE_REGION_CONFIG_FILE_OPTIONS, ...files, ...chosen },
  );
  return {
    async keys(signal: AbortSignal): Promise<AwsKeys> {
      try {
        return await unlessAborted(keys(), signal);
      } catch (cause) {
        signal.throwIfAborted();
        throw new SystemFailure(
          `There are no keys for AWS (${describeError(cause)}): set ${advice}, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for the runner's service, or give this machine a role`,
          { cause, retry: true, reason: "runner_configuration_error" },
        );
      }
    },
    /** @throws {SystemFailure} nobody says which */
    async region(): Promise<string> {
      const found = await region();
      if (found !== "") return found;
      throw new SystemFailure(
        "Nothing says in which region of AWS it is: set AWS_REGION for the runner's service, or region in the profile of its configuration",
        { reason: "runner_configuration_error" },
      );
    },
  };
}
