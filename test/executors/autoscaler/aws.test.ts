import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text as readAll } from "node:stream/consumers";
import ssh2 from "ssh2";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { awsProvider } from "../../../executors/autoscaler/providers/aws/aws.ts";
import { awsConfig, awsSettings } from "../../../executors/autoscaler/providers/aws/settings.ts";
import type { Log } from "../../../src/log.ts";
import { never } from "../../../src/time.ts";
import { motoMissing, startMoto, type TestAws } from "../../support/aws/moto.ts";

const said: string[] = [];
const say = (message: string): void => void said.push(message);
const log: Log = { debug: say, info: say, warn: say, error: say, child: () => log };

function cloudOf(env: Readonly<Record<string, string>>, group: string, sendsKey = true) {
  const dir = mkdtempSync(join(tmpdir(), "alloy-aws-"));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  // Keys and region come from files, as on most machines.
  writeFileSync(
    join(dir, "credentials"),
    `[ci]\naws_access_key_id = ${env.AWS_ACCESS_KEY_ID}\naws_secret_access_key = ${env.AWS_SECRET_ACCESS_KEY}\n`,
  );
  writeFileSync(join(dir, "config"), `[profile ci]\nregion = ${env.AWS_REGION}\n`);
  for (const name of [
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_PROFILE",
  ]) {
    vi.stubEnv(name, undefined);
  }
  const config = awsConfig.parse({
    name: group,
    profile: "ci",
    config_file: "config",
    credentials_file: "credentials",
  });
  return awsProvider({
    settings: awsSettings(config, dir),
    environment: env,
    login: () => ({ user: undefined, sendsKey }),
    log,
  });
}

const missing = motoMissing();

describe.skipIf(missing !== null)(`an Auto Scaling group of AWS${missing === null ? "" : `: ${missing}`}`, () => {
  let aws: TestAws;
  beforeAll(async () => {
    aws = await startMoto({ most: 4 });
  }, 300_000);
  afterAll(() => aws?.close());

  test("it grows to its maximum, tells addresses, lets keys in, and shrinks by the instances that are named", async () => {
    said.length = 0;
    const cloud = cloudOf(aws.env, aws.group);
    await cloud.init(never);
    expect(said).toEqual([]);
    expect(await cloud.list(never)).toEqual([]);
    expect(await cloud.grow(3, never)).toBe(3);
    expect(await cloud.grow(3, never)).toBe(1);
    expect(await cloud.grow(1, never)).toBe(0);
    await expect.poll(async () => (await cloud.list(never)).filter(({ state }) => state === "running")).toHaveLength(4);
    const [first, second, ...others] = (await cloud.list(never)).map(({ id }) => id);
    if (first === undefined || second === undefined) throw new Error("there are four");
    expect(await cloud.exists(first, never)).toBe(true);
    const connection = await cloud.connect(first, never);
    expect(connection).toMatchObject({ user: "ec2-user", hostKeys: [], internal: { port: null } });
    expect(connection.internal?.host).toMatch(/^\d+\.\d+\.\d+\.\d+$/);
    expect(ssh2.utils.parseKey(connection.key ?? "")).toMatchObject({ type: "ssh-rsa" });
    expect((connection.expires ?? 0) - Date.now()).toBeGreaterThan(30_000);

    await cloud.shrink([first, second, "i-0123456789abcdef0"], never);
    await expect
      .poll(async () =>
        (await cloud.list(never))
          .filter(({ state }) => state === "running")
          .map(({ id }) => id)
          .sort(),
      )
      .toEqual(others.sort());
    // What was decremented is not made anew.
    expect(await cloud.grow(1, never)).toBe(1);
    expect(await cloud.exists(first, never)).toBe(false);
    expect(await cloud.exists("i-0123456789abcdef0", never)).toBe(false);
    await expect(cloud.connect(first, never)).rejects.toThrow(/no instance .* any more/);
    await cloud.shrink(
      (await cloud.list(never)).map(({ id }) => id),
      never,
    );
  });

  test("a group that is not there, keeps instances, or removes them under their jobs is named", async () => {
    await expect(cloudOf(aws.env, "nobody").init(never)).rejects.toThrow(/no Auto Scaling group "nobody"/);
    const create = async (name: string, more: Readonly<Record<string, string>>) =>
      await aws.call("autoscaling", "CreateAutoScalingGroup", {
        AutoScalingGroupName: name,
        LaunchConfigurationName: "runner",
        MaxSize: "2",
        "AvailabilityZones.member.1": `${aws.env.AWS_REGION}a`,
        "AvailabilityZones.member.2": `${aws.env.AWS_REGION}b`,
        ...more,
      });
    await create("greedy", { MinSize: "1" });
    await expect(cloudOf(aws.env, "greedy").init(never)).rejects.toThrow(/"greedy" keeps 1 instances/);
    await create("loose", { MinSize: "0" });
    said.length = 0;
    await cloudOf(aws.env, "loose").init(never);
    expect(said).toEqual([expect.stringContaining("protection from scale-in"), expect.stringContaining("AZRebalance")]);
  });
});

/** What moto is too quick or too kind for: answers that a test says. */
async function openAnswers(answer: (action: string, body: string) => { status?: number; text: string }) {
  const asked: { readonly action: string; readonly body: string; readonly authorization: string }[] = [];
  const server = createServer((request, response) => {
    void readAll(request).then((body) => {
      const action = new URLSearchParams(body).get("Action") ?? String(request.headers["x-amz-target"]);
      asked.push({ action, body, authorization: request.headers.authorization ?? "" });
      const { status = 200, text } = answer(action, body);
      response.writeHead(status).end(text);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}/`;
  const env = {
    AWS_ENDPOINT_URL: url,
    AWS_REGION: "eu-central-1",
    AWS_ACCESS_KEY_ID: "AKIA",
    AWS_SECRET_ACCESS_KEY: "s3cret",
  };
  return { env, asked };
}

const groupOf = (instances: string, desired = 2) =>
  `<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups><member>
<MinSize>0</MinSize><MaxSize>9</MaxSize><DesiredCapacity>${desired}</DesiredCapacity><AvailabilityZones><member>a</member></AvailabilityZones>
<SuspendedProcesses/><Instances>${instances}</Instances></member></AutoScalingGroups></DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>`;

test("states of a life are told apart, and one that is being removed is not removed again", async () => {
  const states = ["Pending", "Pending:Wait", "InService", "EnteringStandby", "Terminating", "Terminated"];
  const members = states.map(
    (state, i) => `<member><InstanceId>i-${i}</InstanceId><LifecycleState>${state}</LifecycleState></member>`,
  );
  const { env, asked } = await openAnswers((action) => ({
    text: action === "DescribeAutoScalingGroups" ? groupOf(members.join("")) : "<Done/>",
  }));
  const cloud = cloudOf(env, "g");
  expect((await cloud.list(never)).map(({ state }) => state)).toEqual([
    "creating",
    "creating",
    "running",
    "running",
    "deleting",
    "deleting",
  ]);
  await cloud.shrink(["i-0", "i-2", "i-4", "i-7"], never);
  const ended = asked.filter(({ action }) => action === "TerminateInstanceInAutoScalingGroup");
  expect(ended.map(({ body }) => new URLSearchParams(body).get("InstanceId"))).toEqual(["i-0", "i-2"]);
  expect(ended.every(({ body }) => body.includes("ShouldDecrementDesiredCapacity=true"))).toBe(true);
});

test("what AWS refuses says why, no key shows, and the others are removed all the same", async () => {
  const member = (id: string) =>
    `<member><InstanceId>${id}</InstanceId><LifecycleState>InService</LifecycleState></member>`;
  const { env, asked } = await openAnswers((action, body) => {
    if (action === "DescribeAutoScalingGroups") return { text: groupOf(member("i-1") + member("i-2")) };
    if (action === "SetDesiredCapacity") {
      return {
        status: 400,
        text: "<ErrorResponse><Error><Code>ScalingActivityInProgress</Code><Message>wait</Message></Error></ErrorResponse>",
      };
    }
    if (action === "DescribeInstances") {
      return {
        status: 403,
        text: "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors></Response>",
      };
    }
    return body.includes("i-1") ? { status: 503, text: "overloaded" } : { text: "<Done/>" };
  });
  const cloud = cloudOf(env, "g");
  await expect(cloud.grow(1, never)).rejects.toThrow("AWS refuses SetDesiredCapacity: ScalingActivityInProgress: wait");
  await expect(cloud.connect("i-1", never)).rejects.toThrow("AWS refuses DescribeInstances: UnauthorizedOperation: no");
  await expect(cloud.shrink(["i-1", "i-2"], never)).rejects.toThrow(/refuses TerminateInstance\S+: status 503/);
  expect(asked.filter(({ action }) => action === "TerminateInstanceInAutoScalingGroup")).toHaveLength(2);
  expect(asked[0]?.authorization).toMatch(/Credential=AKIA\/\d+\/eu-central-1\/autoscaling\//);
  expect(JSON.stringify(asked)).not.toContain("s3cret");
});

test("the key goes to the account that logs in, in the instance's zone; with credentials of one's own none is sent", async () => {
  const { env, asked } = await openAnswers((action) => ({
    text:
      action === "DescribeInstances"
        ? `<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-1</instanceId><instanceState><code>16</code><name>running</name></instanceState>
<placement><availabilityZone>eu-central-1b</availabilityZone></placement><privateIpAddress>10.0.0.7</privateIpAddress><ipAddress>192.0.2.7</ipAddress></item></instancesSet></item></reservationSet></DescribeInstancesResponse>`
        : "{}",
  }));
  const connection = await cloudOf(env, "g").connect("i-1", never);
  expect(connection).toMatchObject({ internal: { host: "10.0.0.7" }, external: { host: "192.0.2.7" } });
  const sent = JSON.parse(asked.at(-1)?.body ?? "");
  expect(sent).toMatchObject({ InstanceId: "i-1", InstanceOSUser: "ec2-user", AvailabilityZone: "eu-central-1b" });
  const parsed = ssh2.utils.parseKey(connection.key ?? "");
  if (parsed instanceof Error) throw parsed;
  expect(sent.SSHPublicKey.split(" ")[1]).toBe(parsed.getPublicSSH().toString("base64"));
  expect(asked.at(-1)?.authorization).toContain("/ec2-instance-connect/aws4_request");
  const before = asked.length;
  expect(await cloudOf(env, "g", false).connect("i-1", never)).toMatchObject({ key: undefined, expires: undefined });
  expect(asked.length).toBe(before + 1);
});

test("without keys or a region the answer is what to set", async () => {
  const dir = mkdtempSync(join(tmpdir(), "alloy-aws-"));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  for (const name of ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"])
    vi.stubEnv(name, undefined);
  vi.stubEnv("AWS_EC2_METADATA_DISABLED", "true");
  const open = () =>
    awsProvider({
      settings: { group: "g", profile: undefined, configFile: join(dir, "no"), credentialsFile: join(dir, "no") },
      environment: {},
      login: () => ({ user: undefined, sendsKey: true }),
      log,
    });
  await expect(open().list(never)).rejects.toThrow(/set AWS_REGION/);
  vi.stubEnv("AWS_REGION", "eu-central-1");
  await expect(open().list(never)).rejects.toThrow(/no keys for AWS .*AWS_ACCESS_KEY_ID/);
});
