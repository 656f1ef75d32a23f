import { mkdtempSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AwsClient } from "aws4fetch";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import type { S3Bucket } from "../../src/config/config.ts";
import { describeError } from "../../src/errors.ts";
import { never } from "../../src/time.ts";
import { type Reply, site } from "../coordinator/server.ts";
import { type EmptyAws, motoMissing, startMotoServer } from "../support/aws/moto.ts";
import type { CloudRequest } from "../support/stores/clouds.ts";
import { type BucketStand, openBucketStore } from "./bucket-store.ts";
import { place } from "./large-caches.ts";
import { getText, putText } from "./small-caches.ts";

const missing = motoMissing();
const region = "eu-central-1";
const role = "arn:aws:iam::123456789012:role/cache";

describe.skipIf(missing !== null)(`logins to S3${missing === null ? "" : `: ${missing}`}`, () => {
  let aws: EmptyAws;
  let dir: string;
  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "alloy-s3-logins-"));
    aws = await startMotoServer();
    const client = new AwsClient({ accessKeyId: "AKIATEST", secretAccessKey: "s", region, service: "s3", retries: 0 });
    const body = `<CreateBucketConfiguration><LocationConstraint>${region}</LocationConstraint></CreateBucketConfiguration>`;
    const made = await client.fetch(`${aws.url}/caches`, { method: "PUT", body });
    if (!made.ok) throw new Error(await made.text());
  }, 180_000);
  afterEach(() => void vi.unstubAllEnvs());
  afterAll(async () => {
    await aws?.close();
    await rm(dir, { recursive: true, force: true });
  });

  const pass = async ({ method, path, headers, body }: CloudRequest): Promise<Reply> => {
    const { host: _, connection: _1, "content-length": _2, "transfer-encoding": _3, ...rest } = headers;
    const given = Object.entries(rest).map(([name, value]): [string, string] => [name, String(value)]);
    const content = method === "GET" ? {} : { body: new Uint8Array(body) };
    const answer = await fetch(`${aws.url}${path}`, { method, headers: given, ...content });
    const names = ["etag", "last-modified", "content-range", "x-amz-meta-alloy-fingerprint", "content-type"];
    const answered = names.flatMap((name) => {
      const value = answer.headers.get(name);
      return value === null ? [] : [[name, value]];
    });
    const bytes = Buffer.from(await answer.arrayBuffer());
    return { status: answer.status, headers: Object.fromEntries(answered), body: bytes };
  };
  /** A server in front of S3 or STS, which keeps what it was sent. */
  const front = () => site(pass, undefined, "127.0.0.1");

  const stub = (variables: Readonly<Record<string, string>>): void => {
    for (const [name, value] of Object.entries(variables)) vi.stubEnv(name, value);
  };
  const open = (endpoint: URL, bucket: Partial<S3Bucket>, environment: Readonly<Record<string, string>> = {}) =>
    stand(endpoint, bucket, environment).store;
  const stand = (endpoint: URL, bucket: Partial<S3Bucket>, environment: Readonly<Record<string, string>> = {}) =>
    openBucketStore(endpoint, { region, ...bucket }, { environment });
  /** What the metrics of a name say, and the sums and counts below it. */
  const counted = async ({ metrics }: BucketStand, name: RegExp): Promise<Record<string, number>> => {
    const lines = (await metrics.render())
      .split("\n")
      .filter((line) => !/^#|_bucket|_sum/.test(line) && name.test(line));
    return Object.fromEntries(
      lines.map((line) => [line.replace(/ .*/, "").replace(name, ""), Number(line.split(" ").at(-1))]),
    );
  };
  const keyOf = (path: string | undefined): string =>
    new URL(path ?? "/", "http://x").searchParams.get("X-Amz-Credential")?.split("/")[0] ?? "";

  test("a role is taken once for each direction, for what the project's caches need", async () => {
    const [s3, sts] = [await front(), await front()];
    const own = { from: "key", accessKey: "AKIAOWN", secretKey: "s", sessionToken: undefined } as const;
    const stood = stand(s3.url, { role, credentials: own }, { AWS_ENDPOINT_URL_STS: sts.url.href });
    const { store } = stood;
    expect(await counted(stood, /^gitlab_runner_cache_s3_assume_role_/)).toEqual({});
    await Promise.all([putText(store), putText(store)]);
    expect(await getText(store)).toBe("x");
    expect(await store.fingerprint(place, never)).toBe("f1");
    const asked = sts.received.map(({ body }) => new URLSearchParams(body.toString()));
    expect(asked).toHaveLength(2);
    const policies = asked.map((fields) => JSON.parse(fields.get("Policy") ?? "").Statement);
    const objects = "arn:aws:s3:::caches/ci/runner/7e3b05c2/project/5/*";
    expect(policies).toContainEqual([
      { Effect: "Allow", Action: ["s3:PutObject", "s3:AbortMultipartUpload"], Resource: objects },
    ]);
    expect(policies).toContainEqual([
      { Effect: "Allow", Action: ["s3:GetObject"], Resource: objects },
      { Effect: "Allow", Action: ["s3:ListBucket"], Resource: "arn:aws:s3:::caches" },
    ]);
    expect(s3.received.map(({ path }) => keyOf(path)).every((key) => key.startsWith("ASIA"))).toBe(true);
    expect(await counted(stood, /^gitlab_runner_cache_s3_assume_role_/)).toEqual({
      requests_in_flight: 0,
      duration_seconds_count: 2,
      cache_hits_total: s3.received.length - 2,
      cache_misses_total: 2,
      failures_total: 0,
    });
  });

  test("a canceled job does not break the role that another one waits for, nor wait for it", async () => {
    const [s3, asked, lend] = [await front(), Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const slow = async (request: CloudRequest): Promise<Reply> => {
      asked.resolve();
      await lend.promise;
      return await pass(request);
    };
    const sts = await site(slow, undefined, "127.0.0.1");
    const own = { from: "key", accessKey: "AKIAOWN", secretKey: "s", sessionToken: undefined } as const;
    const store = open(s3.url, { role, credentials: own }, { AWS_ENDPOINT_URL_STS: sts.url.href });
    const job = new AbortController();
    const first = store.version(place, job.signal).catch(describeError);
    await asked.promise;
    const second = getText(store);
    job.abort(new Error("canceled"));
    expect(await first).toBe("canceled");
    lend.resolve();
    await expect(second).resolves.toBeDefined();
    expect(sts.received).toHaveLength(1);
  });

  test("UploadRoleARN is for uploads alone", async () => {
    const s3 = await front();
    const own = { from: "key", accessKey: "AKIAOWN", secretKey: "s", sessionToken: undefined } as const;
    const store = open(s3.url, { uploadRole: role, credentials: own }, aws.env);
    await putText(store);
    expect(await getText(store)).toBe("x");
    expect(s3.received.map(({ method, path }) => `${method} ${keyOf(path).slice(0, 4)}`)).toEqual([
      "PUT ASIA",
      "GET AKIA",
    ]);
  });

  test("a role that is refused is told, and the next one may be had", async () => {
    const s3 = await front();
    const own = { from: "key", accessKey: "AKIAOWN", secretKey: "s", sessionToken: undefined } as const;
    const denied = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>";
    let answers = 1;
    const sts = await site(
      (request) => (answers-- > 0 ? { status: 403, body: denied } : pass(request)),
      undefined,
      "127.0.0.1",
    );
    const stood = stand(s3.url, { role, credentials: own }, { AWS_ENDPOINT_URL_STS: sts.url.href });
    const { store } = stood;
    expect(await getText(store).catch(describeError)).toMatch(
      /assume the role arn:aws.*status 403, AccessDenied: not you/,
    );
    expect(await counted(stood, /^gitlab_runner_cache_s3_assume_role_f/)).toEqual({ ailures_total: 1 });
    await putText(store);
    expect(s3.received).toHaveLength(1);
  });

  test.each([
    { status: 503 },
    { status: 400, body: "<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>" },
  ])("a role that may be had later is asked for three times, and no more: %j", async (busy) => {
    const s3 = await front();
    const own = { from: "key", accessKey: "AKIAOWN", secretKey: "s", sessionToken: undefined } as const;
    let left = 0;
    const sts = await site((request) => (left-- > 0 ? busy : pass(request)), undefined, "127.0.0.1");
    const openNew = () => open(s3.url, { role, credentials: own }, { AWS_ENDPOINT_URL_STS: sts.url.href });
    left = 2;
    await putText(openNew());
    left = 30;
    sts.received.length = 0;
    expect(await putText(openNew()).catch(describeError)).toContain(`status ${busy.status}`);
    expect(sts.received).toHaveLength(3);
    // A download is tried again as a whole, by who restores the cache.
    expect(await getText(openNew()).catch(describeError)).toContain(`status ${busy.status}`);
    expect(sts.received).toHaveLength(4);
  });

  test.each([
    [
      "a profile with a role of another one",
      () => {
        writeFileSync(
          join(dir, "config"),
          `[profile ci]\nrole_arn = ${role}\nsource_profile = base\nregion = ${region}\n`,
        );
        writeFileSync(join(dir, "credentials"), "[base]\naws_access_key_id = AKIABASE\naws_secret_access_key = s\n");
        return {
          AWS_PROFILE: "ci",
          AWS_CONFIG_FILE: join(dir, "config"),
          AWS_SHARED_CREDENTIALS_FILE: join(dir, "credentials"),
        };
      },
      /^ASIA/,
    ],
    [
      "a profile's program",
      () => {
        const keys = { Version: 1, AccessKeyId: "AKIAPROGRAM", SecretAccessKey: "s" };
        writeFileSync(join(dir, "program"), `[profile ci]\ncredential_process = echo '${JSON.stringify(keys)}'\n`);
        return {
          AWS_PROFILE: "ci",
          AWS_CONFIG_FILE: join(dir, "program"),
          AWS_SHARED_CREDENTIALS_FILE: "/nonexistent",
        };
      },
      /^AKIAPROGRAM$/,
    ],
    [
      "a web identity",
      () => {
        writeFileSync(join(dir, "token"), "a.web.token");
        return {
          AWS_WEB_IDENTITY_TOKEN_FILE: join(dir, "token"),
          AWS_ROLE_ARN: role,
          AWS_CONFIG_FILE: "/nonexistent",
          AWS_SHARED_CREDENTIALS_FILE: "/nonexistent",
        };
      },
      /^ASIA/,
    ],
    [
      "the environment",
      () => ({ AWS_ACCESS_KEY_ID: "AKIAENV", AWS_SECRET_ACCESS_KEY: "s", AWS_CONFIG_FILE: "/nonexistent" }),
      /^AKIAENV$/,
    ],
    [
      "the environment, also with a profile and in its older spelling,",
      () => {
        writeFileSync(join(dir, "other"), "[profile ci]\ncredential_process = false\n");
        return {
          AWS_ACCESS_KEY: "AKIAOLDER",
          AWS_SECRET_KEY: "s",
          AWS_PROFILE: "ci",
          AWS_CONFIG_FILE: join(dir, "other"),
          AWS_SHARED_CREDENTIALS_FILE: "/nonexistent",
        };
      },
      /^AKIAOLDER$/,
    ],
    [
      "a web identity, also with a profile,",
      () => {
        writeFileSync(join(dir, "token"), "a.web.token");
        writeFileSync(join(dir, "usual"), "[default]\naws_access_key_id = AKIAUSUAL\naws_secret_access_key = s\n");
        return {
          AWS_WEB_IDENTITY_TOKEN_FILE: join(dir, "token"),
          AWS_ROLE_ARN: role,
          AWS_CONFIG_FILE: "/nonexistent",
          AWS_SHARED_CREDENTIALS_FILE: join(dir, "usual"),
        };
      },
      /^ASIA/,
    ],
  ] as const)("%s gives the keys", async (_, prepare, key) => {
    const s3 = await front();
    stub({ AWS_ENDPOINT_URL: aws.url, AWS_REGION: region, ...prepare() });
    const store = open(s3.url, { credentials: { from: "iam" } }, {});
    await putText(store);
    expect(await getText(store)).toBe("x");
    expect(keyOf(s3.received.at(-1)?.path)).toMatch(key);
  });

  test("the file of a web identity is read again for each loan, which all wait for together", async () => {
    const s3 = await front();
    let until = Date.now() + 3_600_000;
    const sts = await site(
      () => {
        const keys = `<AccessKeyId>ASIAWEB</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>`;
        const lent = `<Credentials>${keys}<Expiration>${new Date(until).toISOString()}</Expiration></Credentials>`;
        const result = `<AssumeRoleWithWebIdentityResult>${lent}</AssumeRoleWithWebIdentityResult>`;
        const body = `<AssumeRoleWithWebIdentityResponse>${result}</AssumeRoleWithWebIdentityResponse>`;
        return { status: 200, headers: { "content-type": "text/xml" }, body };
      },
      undefined,
      "127.0.0.1",
    );
    const token = join(dir, "rotated");
    const none = { AWS_CONFIG_FILE: "/nonexistent", AWS_SHARED_CREDENTIALS_FILE: "/nonexistent", AWS_REGION: region };
    stub({ ...none, AWS_WEB_IDENTITY_TOKEN_FILE: token, AWS_ROLE_ARN: role, AWS_ENDPOINT_URL_STS: sts.url.origin });
    const shown = () => sts.received.map(({ body }) => new URLSearchParams(body.toString()).get("WebIdentityToken"));
    writeFileSync(token, "first");
    const lasting = open(s3.url, { credentials: { from: "iam" } });
    await Promise.all(Array.from({ length: 10 }, () => lasting.version(place, never)));
    expect(shown()).toEqual(["first"]);
    until = Date.now() - 1000;
    const brief = open(s3.url, { credentials: { from: "iam" } });
    await brief.version(place, never);
    writeFileSync(token, "second");
    await brief.version(place, never);
    expect(shown()).toEqual(["first", "first", "second"]);
    expect(keyOf(s3.received.at(-1)?.path)).toBe("ASIAWEB");
  });

  test("a machine's role is asked for by a token, and one without a role is asked once", async () => {
    const s3 = await front();
    const Expiration = new Date(Date.now() + 3_600_000).toISOString();
    const machine = await site(
      ({ method, path, headers }) => {
        if (method === "PUT" && path === "/latest/api/token") return { status: 200, body: "imds-token" };
        if (headers["x-aws-ec2-metadata-token"] !== "imds-token") return { status: 401 };
        if (path.endsWith("/security-credentials/")) return { status: 200, body: "cache-role" };
        const keys = { Code: "Success", AccessKeyId: "ASIAMACHINE", SecretAccessKey: "s", Token: "t", Expiration };
        return { status: 200, body: JSON.stringify(keys) };
      },
      undefined,
      "127.0.0.1",
    );
    const none = { AWS_CONFIG_FILE: "/nonexistent", AWS_SHARED_CREDENTIALS_FILE: "/nonexistent" };
    stub({ ...none, AWS_EC2_METADATA_SERVICE_ENDPOINT: machine.url.origin });
    const stood = stand(s3.url, { credentials: { from: "iam" } });
    const { store } = stood;
    await putText(store);
    expect(keyOf(s3.received.at(-1)?.path)).toBe("ASIAMACHINE");
    const asked = machine.received.length;
    await putText(store);
    expect(machine.received).toHaveLength(asked);
    expect(await counted(stood, /^alloy_runner_cloud_login_/)).toEqual({
      'seconds_count{cloud="aws"}': 1,
      'failures_total{cloud="aws"}': 0,
    });

    const refusing = await site(() => ({ status: 404 }), undefined, "127.0.0.1");
    stub({ AWS_EC2_METADATA_SERVICE_ENDPOINT: refusing.url.origin });
    const without = open(s3.url, { credentials: { from: "iam" } });
    const said = await putText(without).catch(describeError);
    expect(said).toMatch(/no keys for AWS .*AccessKey and SecretKey in \[runners.cache.s3\]/);
    const once = refusing.received.length;
    expect(await getText(without).catch(describeError)).toBe(said);
    expect(refusing.received).toHaveLength(once);
  });

  test("the region of a bucket is learnt where it is not given", async () => {
    const regions: (string | undefined)[] = [];
    const s3 = await site(
      ({ path }) => {
        const at = new URL(path, "http://x").searchParams.get("X-Amz-Credential")?.split("/")[2];
        regions.push(at);
        return at === "eu-west-3" ? { status: 404 } : { status: 400, headers: { "x-amz-bucket-region": "eu-west-3" } };
      },
      undefined,
      "127.0.0.1",
    );
    const own = { from: "key", accessKey: "AKIAOWN", secretKey: "s", sessionToken: undefined } as const;
    const store = openBucketStore(s3.url, { regionGiven: false, credentials: own }).store;
    expect(await getText(store)).toBeNull();
    expect(await getText(store)).toBeNull();
    expect(regions).toEqual(["us-east-1", "eu-west-3", "eu-west-3"]);
  });
});
