import { type GoogleLogin, openGoogleLogin } from "../../../cloud/google/login.ts";
import { signGoogleUrl } from "../../../cloud/google/signed-url.ts";
import type { GcsBucket } from "../../../config/config.ts";
import { describeError, SystemFailure } from "../../../errors.ts";
import { unlessAborted } from "../../../time.ts";
import { encodeObject, partOf, type Way, type WayOptions } from "./way.ts";

/** Google's buckets by their XML interface: a key signs addresses, as GitLab Runner does it; without one a token goes along. */
export function openGcs(bucket: GcsBucket, { ask, askNearby, environment, meter }: WayOptions): Way {
  const { credentials, domain, name } = bucket;
  let opening: Promise<GoogleLogin> | undefined;
  const login = async (): Promise<GoogleLogin> => {
    if (credentials.from === "key") return { key: credentials };
    opening ??= openGoogleLogin({ ask, askNearby, environment, meter, file: credentials.file });
    const mine = opening;
    return await mine.catch((error: unknown) => {
      if (opening === mine) opening = undefined;
      throw error;
    });
  };

  return {
    async admit({ method, object, query = {}, headers, lifeMs }, signal) {
      const url = new URL(`https://storage.${domain}/${name}/${encodeObject(object)}`);
      // Others wait for the same login: who is canceled just waits no longer.
      const by = await unlessAborted(login(), signal);
      if ("key" in by) {
        try {
          return { url: signGoogleUrl(by.key, { method, url, query, headers, lifeMs }), headers: {} };
        } catch (cause) {
          throw new SystemFailure(`the private key for the bucket ${name} cannot be used: ${describeError(cause)}`, {
            cause,
            reason: "runner_configuration_error",
          });
        }
      }
      for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value);
      return { url, headers: { authorization: `Bearer ${(await unlessAborted(by.token(), signal)).accessToken}` } };
    },
    fingerprintHeader: "x-goog-meta-alloy-fingerprint",
    keyHeader: "x-goog-meta-cachekey",
    createHeaders: {},
    wholeHeaders: {},
    pieces: "parts",
    bucketGone: ["NoSuchBucket"],
    codeOf: (answer) => partOf(answer, "Code"),
    learn: () => false,
    checksumIn({ headers }) {
      const said = [headers["x-goog-hash"]].flat().join(",");
      const encoded = /(?:^|,)\s*crc32c=([A-Za-z0-9+/]{6}==)/.exec(said)?.[1];
      return encoded === undefined ? undefined : Buffer.from(encoded, "base64").readUInt32BE();
    },
    advise: (answer) =>
      partOf(answer, "Code") === "AccessDenied"
        ? "its login needs storage.objects.get, .create and .delete on the bucket"
        : "",
  };
}
