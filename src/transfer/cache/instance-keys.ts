import {
  ENV_CMDS_FULL_URI,
  ENV_CMDS_RELATIVE_URI,
  fromContainerMetadata,
  fromInstanceMetadata,
} from "@smithy/credential-provider-imds";

/**
 * Asks the cloud for the keys of this container (ECS, EKS pod identity) or machine (EC2). A file of its own, because the names of a
 * package in CommonJS are lost in the bundle where the package itself is imported by a call.
 * @throws whatever the library says, when there is no such cloud
 */
export async function askForInstanceKeys(timeoutMs: number) {
  const settings = { timeout: timeoutMs, maxRetries: 1 };
  const inContainer = [ENV_CMDS_RELATIVE_URI, ENV_CMDS_FULL_URI].some((name) => process.env[name]);
  return await (inContainer ? fromContainerMetadata(settings) : fromInstanceMetadata(settings))();
}
