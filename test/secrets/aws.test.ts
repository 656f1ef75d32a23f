import { AwsClient } from "aws4fetch";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { type EmptyAws, motoMissing, startMotoServer } from "../support/aws/moto.ts";
import { resolve } from "./resolving.ts";

const from = "aws_secrets_manager";
const missing = motoMissing();

describe.skipIf(missing !== null)(`AWS Secrets Manager${missing === null ? "" : `: ${missing}`}`, () => {
  let aws: EmptyAws;
  beforeAll(async () => {
    aws = await startMotoServer();
    const {
      AWS_ACCESS_KEY_ID: accessKeyId = "",
      AWS_SECRET_ACCESS_KEY: secretAccessKey = "",
      AWS_REGION: region = "",
    } = aws.env;
    const client = new AwsClient({ accessKeyId, secretAccessKey, region, retries: 0 });
    const put = async (body: object): Promise<void> => {
      const headers = { "content-type": "application/x-amz-json-1.1", "x-amz-target": "secretsmanager.CreateSecret" };
      const answer = await client.fetch(aws.url, {
        method: "POST",
        headers,
        body: JSON.stringify(body),
        aws: { service: "secretsmanager" },
      });
      if (!answer.ok) throw new Error(await answer.text());
    };
    await put({
      Name: "db",
      SecretString: '{"password":"aws-pass-word","port":5432,"ratio":1.50,"on":true,"deep":{"a":1}}',
    });
    await put({ Name: "plain", SecretString: "plain-pass-word" });
    await put({ Name: "binary", SecretBinary: Buffer.from([0, 1, 2]).toString("base64") });
  }, 180_000);
  beforeEach(() => {
    for (const [name, value] of Object.entries(aws.env)) vi.stubEnv(name, value);
  });
  afterEach(() => void vi.unstubAllEnvs());
  afterAll(async () => {
    await aws?.close();
  });

  const region = "eu-central-1";
  const server = {
    region,
    role_arn: "arn:aws:iam::123456789012:role/reader",
    role_session_name: "",
    jwt: "$AWS_ID_TOKEN",
  };
  const variables = {
    AWS_ID_TOKEN: "a-token-of-the-job",
    CI_JOB_ID: "7",
    CI_PROJECT_ID: "5",
    CI_SERVER_HOST: "gitlab.example.com",
  };
  const ask = (wanted: object, given: Readonly<Record<string, string>> = variables) =>
    resolve([{ from, wanted }], { variables: given, means: { environment: aws.env } });

  test.each([
    ["by the role that the job's token gives", { secret_id: "db", field: "password", server }, "aws-pass-word"],
    ["by the runner's own login", { secret_id: "plain", region, server: {} }, "plain-pass-word"],
    ["as number", { secret_id: "db", field: "ratio", server }, "1.50"],
    ["as boolean", { secret_id: "db", field: "on", server }, "true"],
    ["of bytes", { secret_id: "binary", server }, "AAEC"],
  ])("a secret is read %s", async (_, wanted, value) => {
    const { values, failure } = await ask(wanted);
    expect(failure?.message).toBeUndefined();
    expect(values).toEqual([value]);
  });

  test.each([
    ["a secret that is not there", { secret_id: "no", server }, variables, /there is no such secret/],
    ["a field that is not there", { secret_id: "db", field: "user", server }, variables, /there is no such secret/],
    [
      "a field that is an object",
      { secret_id: "db", field: "deep", server },
      variables,
      /neither text, number nor boolean/,
    ],
    ["a field of what is no object", { secret_id: "plain", field: "x", server }, variables, /no JSON object/],
    ["a token without a role", { secret_id: "db", server: { ...server, role_arn: "" } }, variables, /no role_arn/],
    ["no region", { secret_id: "db", server: { ...server, region: "" } }, variables, /does not say a region/],
  ])("%s is the job's own fault", async (_, wanted, given, message) => {
    const { failure } = await ask(wanted, given);
    expect(failure?.message).toMatch(message);
    expect(failure?.reason).toBe("runner_configuration_error");
  });
});
