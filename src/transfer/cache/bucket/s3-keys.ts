import { randomBytes } from "node:crypto";
import type { Ask } from "../../../cloud/ask.ts";
import type { AwsKeys } from "../../../cloud/aws/login.ts";
import type { LentKeys } from "../../../cloud/aws/sts.ts";
import { type CloudMeter, type Ended, metered } from "../../../cloud/meter.ts";
import type { S3Bucket } from "../../../config/config.ts";
import { SystemFailure } from "../../../errors.ts";
import { deadline, never, unlessAborted } from "../../../time.ts";

/** Keys that end sooner are asked for again. */
const SPARE_MS = 5 * 60_000;
/** For the keys of this machine and the role together. */
const LOAN_MS = 100_000;
/** How long a machine without keys is not asked for them again. */
const NO_KEYS_MS = 60_000;
/** Loans that are remembered; those that are used rarely are asked for anew. */
const MOST_LOANS = 1000;

export interface S3KeyOptions {
  readonly ask: Ask;
  readonly meter: CloudMeter;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

interface Wish {
  readonly method: string;
  readonly under: string;
  readonly region: string;
}

/** The keys for a request: those of the configuration, those that this machine has, or those of a role that these may take. */
export function createS3Keys(
  bucket: S3Bucket,
  { ask, environment, meter }: S3KeyOptions,
): (wish: Wish, signal: AbortSignal) => Promise<AwsKeys> {
  const own =
    bucket.credentials.from === "iam" ? machineKeys(() => meter.login("aws")) : configuredKeys(bucket.credentials);
  const loans = new Map<string, Promise<LentKeys>>();

  const lend = async ({ method, under, region }: Wish, role: string, signal: AbortSignal): Promise<AwsKeys> => {
    const reads = method === "GET";
    const key = JSON.stringify([role, under, reads]);
    const { assumeRole } = await import("../../../cloud/aws/sts.ts");
    const anew = (): Promise<LentKeys> => {
      loans.delete(key);
      const [oldest] = loans.keys();
      if (loans.size >= MOST_LOANS && oldest !== undefined) loans.delete(oldest);
      const sessionName = `alloy-runner-cache-${randomBytes(4).toString("hex")}`;
      const policy = policyFor(bucket, under, reads);
      // No caller's signal: others wait for the same loan.
      const borrow = async (): Promise<LentKeys> => {
        const late = new SystemFailure(`Nobody lent the role ${role} within ${LOAN_MS / 1000} s`, { retry: true });
        using limit = deadline(never, LOAN_MS, late);
        const keys = await own(limit.signal);
        const wanted = { arn: role, sessionName, region, policy, keys };
        return await metered(meter.roleAsked(), assumeRole(ask, wanted, environment, limit.signal));
      };
      const loan = borrow();
      loans.set(key, loan);
      loan.catch(() => {
        if (loans.get(key) === loan) loans.delete(key);
      });
      return loan;
    };
    const lent = loans.get(key);
    const loan = lent === undefined ? undefined : await unlessAborted(lent, signal);
    const isThere = loan !== undefined && loan.until - Date.now() > SPARE_MS;
    meter.role(isThere);
    return isThere ? loan : await unlessAborted(anew(), signal);
  };

  return async (wish, signal) => {
    const role = bucket.role ?? (wish.method === "GET" ? undefined : bucket.uploadRole);
    return role === undefined ? await own(signal) : await lend(wish, role, signal);
  };
}

function configuredKeys(given: Extract<S3Bucket["credentials"], { from: "key" }>): () => Promise<AwsKeys> {
  const { accessKey, secretKey, sessionToken } = given;
  const keys = { accessKeyId: accessKey, secretAccessKey: secretKey, sessionToken };
  return async () => keys;
}

/** As AWS's own tools find them: in the environment, in profiles, by a web identity, from the container or the machine. */
function machineKeys(asked: () => Ended): (signal: AbortSignal) => Promise<AwsKeys> {
  let last: string | undefined;
  let failed: { readonly error: unknown; readonly until: number } | undefined;
  let login: Promise<{ keys(signal: AbortSignal): Promise<AwsKeys> }> | undefined;
  return async (signal) => {
    // Where no cloud answers, that takes seconds, and each cache of a job would wait for it again.
    if (failed !== undefined && performance.now() < failed.until) throw failed.error;
    // Loaded when it is needed: most machines have keys in their configuration.
    login ??= import("../../../cloud/aws/login.ts").then(({ openLogin }) => {
      const usual = { profile: undefined, configFile: undefined, credentialsFile: undefined };
      return openLogin({ ...usual, advice: "AccessKey and SecretKey in [runners.cache.s3]" });
    });
    const ended = asked();
    try {
      const keys = await (await login).keys(signal);
      // AWS's library keeps what it has: only other keys were asked for.
      if (keys.accessKeyId !== last) ended(true);
      last = keys.accessKeyId;
      return keys;
    } catch (error) {
      if (!signal.aborted) {
        failed = { error, until: performance.now() + NO_KEYS_MS };
        ended(false);
      }
      throw error;
    }
  };
}

/** What a request of one project needs of its role, and no more. */
function policyFor({ name, encryption, region }: S3Bucket, under: string, reads: boolean): string {
  const partition = region.startsWith("cn-") ? "aws-cn" : region.startsWith("us-gov-") ? "aws-us-gov" : "aws";
  const arn = `arn:${partition}:s3:::${name}`;
  const objects = reads ? ["s3:GetObject"] : ["s3:PutObject", "s3:AbortMultipartUpload"];
  const allow = (Action: readonly string[], Resource: string) => ({ Effect: "Allow", Action, Resource });
  return JSON.stringify({
    Version: "2012-10-17",
    Statement: [
      allow(objects, `${arn}/${under}*`),
      // Without it S3 may not say that there is no such object.
      ...(reads ? [allow(["s3:ListBucket"], arn)] : []),
      ...(encryption?.keyId?.startsWith("arn:") === true
        ? [allow(["kms:Decrypt", "kms:GenerateDataKey"], encryption.keyId)]
        : []),
    ],
  });
}
