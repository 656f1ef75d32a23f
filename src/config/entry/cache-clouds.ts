import type { CacheTable } from "../check/schema.ts";
import type { AzureContainer, GcsBucket } from "../config.ts";

/** What keeps a bucket from being used: the keys' path below `[runners.cache]`, and why. */
export interface BucketProblem {
  readonly path: readonly string[];
  readonly problem: string;
}

type Common = Pick<GcsBucket, "prefix" | "shared">;

const HOST = /^[A-Za-z0-9][A-Za-z0-9.-]*$/;

/** `[runners.cache.gcs]`. */
export function readGcs(table: CacheTable, common: Common): GcsBucket | BucketProblem {
  const gcs = table.gcs ?? {};
  const name = gcs.BucketName?.trim() ?? "";
  if (!/^[a-z0-9][a-z0-9._-]*$/.test(name)) return unusable("gcs", "BucketName", name, "the name of a bucket");
  const domain = gcs.UniverseDomain?.trim() || "googleapis.com";
  if (!HOST.test(domain)) return unusable("gcs", "UniverseDomain", domain, "a domain");
  const email = gcs.AccessID?.trim() ?? "";
  // The environment has no line ends, so keys have them written out there.
  const privateKey = gcs.PrivateKey?.replaceAll("\\n", "\n").trim() ?? "";
  const file = gcs.CredentialsFile?.trim() || undefined;
  if (file === undefined && (email === "") !== (privateKey === "")) {
    const missing = email === "" ? "AccessID" : "PrivateKey";
    return unusable("gcs", missing, "", "");
  }
  const byKey = file === undefined && email !== "";
  const credentials = byKey ? ({ from: "key", email, privateKey } as const) : ({ from: "login", file } as const);
  return { kind: "gcs", name, ...common, domain, credentials };
}

/** `[runners.cache.azure]`. */
export function readAzure(table: CacheTable, common: Common): AzureContainer | BucketProblem {
  const azure = table.azure ?? {};
  const name = azure.ContainerName?.trim() ?? "";
  if (!/^[a-z0-9$][a-z0-9-]*$/.test(name)) return unusable("azure", "ContainerName", name, "the name of a container");
  const account = azure.AccountName?.trim() ?? "";
  if (!/^[a-z0-9]+$/.test(account)) return unusable("azure", "AccountName", account, "the name of a storage account");
  const domain = azure.StorageDomain?.trim() || "blob.core.windows.net";
  if (!HOST.test(domain)) return unusable("azure", "StorageDomain", domain, "a domain");
  const accountKey = azure.AccountKey?.trim() || undefined;
  if (accountKey !== undefined && !/^[A-Za-z0-9+/]+={0,2}$/.test(accountKey)) {
    return unusable("azure", "AccountKey", "…", "base64");
  }
  return { kind: "azure", name, ...common, endpoint: new URL(`https://${account}.${domain}`), account, accountKey };
}

function unusable(table: string, key: string, value: string, expected: string): BucketProblem {
  return { path: [table, key], problem: value === "" ? "is missing" : `is not ${expected}` };
}
