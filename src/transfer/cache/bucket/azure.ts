import { openAzureLogin } from "../../../cloud/azure/login.ts";
import { AZURE_VERSION, blobSignature } from "../../../cloud/azure/sas.ts";
import type { AzureContainer } from "../../../config/config.ts";
import { first } from "../../../coordinator/retry-after.ts";
import { unlessAborted } from "../../../time.ts";
import { encodeObject, partOf, type Way, type WayOptions } from "./way.ts";

/** Azure's containers: the account's key signs for one blob, without one a token goes along. */
export function openAzure(container: AzureContainer, options: WayOptions): Way {
  const { endpoint, account, accountKey, name } = container;
  const token = accountKey === undefined ? openAzureLogin(options) : undefined;
  const common = { "x-ms-version": AZURE_VERSION };
  return {
    async admit({ method, object, query = {}, lifeMs }, signal) {
      const base = `${endpoint.origin}${endpoint.pathname.replace(/\/+$/, "")}`;
      const url = new URL(`${base}/${name}/${encodeObject(object)}`);
      for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value);
      if (accountKey === undefined) {
        // Others wait for the same token: who is canceled just waits no longer.
        const bearer = token === undefined ? "" : (await unlessAborted(token(), signal)).accessToken;
        return { url, headers: { ...common, authorization: `Bearer ${bearer}` } };
      }
      const permission = method === "GET" ? "r" : "w";
      const access = { account, accountKey, container: name, blob: object, permission, lifeMs } as const;
      for (const [key, value] of Object.entries(blobSignature(access))) url.searchParams.set(key, value);
      return { url, headers: common };
    },
    // Names of metadata are those of variables there.
    fingerprintHeader: "x-ms-meta-alloyfingerprint",
    keyHeader: "x-ms-meta-cachekey",
    createHeaders: {},
    wholeHeaders: { "x-ms-blob-type": "BlockBlob" },
    pieces: "blocks",
    bucketGone: ["ContainerNotFound", "ResourceNotFound"],
    codeOf: (answer) => first(answer.headers["x-ms-error-code"]) ?? partOf(answer, "Code"),
    learn: () => false,
    advise: (answer) =>
      first(answer.headers["x-ms-error-code"]) === "AuthorizationPermissionMismatch"
        ? "its login needs the role Storage Blob Data Contributor on the container"
        : "",
  };
}
