import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { AwsClient } from "aws4fetch";
import { builtBy } from "../built.ts";

/** A cloud that behaves as AWS, with an empty Auto Scaling group. */
export interface TestAws {
  /** For the runner. */
  readonly env: Readonly<Record<string, string>>;
  readonly group: string;
  /** Calls an action of Auto Scaling or EC2. @returns its answer, XML */
  call(service: "autoscaling" | "ec2", action: string, parameters?: Readonly<Record<string, string>>): Promise<string>;
  close(): Promise<void>;
}

const VERSIONS = { autoscaling: "2011-01-01", ec2: "2016-11-15" } as const;
const REGION = "eu-central-1";
const KEYS = { accessKeyId: "AKIATEST", secretAccessKey: "a secret" };

/** Why there can be no such cloud here; `null`: there can. With CI=true what is missing is a failure. */
export function motoMissing(): string | null {
  if (spawnSync("python3", ["-c", "import ensurepip"]).status === 0) return null;
  if (process.env.CI === "true") throw new Error("no python3-venv: run scripts/setup-tests.sh");
  return "needs python3 with venv (Debian: python3-venv)";
}

/** A cloud that behaves as AWS, with nothing in it. */
export type EmptyAws = Pick<TestAws, "env" | "close"> & { readonly url: string };

/** Starts moto's server, which is installed where it is missing: that takes a minute. */
export async function startMotoServer(): Promise<EmptyAws> {
  const built = await builtBy(join(import.meta.dirname, "moto.sh"));
  const server = spawn(join(built, "bin/moto_server"), ["-H", "127.0.0.1", "-p", "0"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const exited = once(server, "exit");
  let said = "";
  const url = await new Promise<string>((resolve, reject) => {
    server.stderr.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-10_000);
      const found = /Running on (http:\S+)/.exec(said)?.[1];
      if (found !== undefined) resolve(found);
    });
    void exited.then(() => reject(new Error(`moto does not start: ${said}`)));
  });
  return {
    url,
    env: {
      AWS_ENDPOINT_URL: url,
      AWS_REGION: REGION,
      AWS_ACCESS_KEY_ID: KEYS.accessKeyId,
      AWS_SECRET_ACCESS_KEY: KEYS.secretAccessKey,
    },
    close: async () => {
      server.kill("SIGKILL");
      await exited;
    },
  };
}

/** With an Auto Scaling group. */
export async function startMoto({ most = 4 } = {}): Promise<TestAws> {
  const { url, env, close } = await startMotoServer();
  const client = new AwsClient({ ...KEYS, region: REGION, retries: 0 });
  const call: TestAws["call"] = async (service, action, parameters = {}) => {
    const body = new URLSearchParams({ Action: action, Version: VERSIONS[service], ...parameters }).toString();
    const headers = { "content-type": "application/x-www-form-urlencoded; charset=utf-8" };
    const response = await client.fetch(url, { method: "POST", body, headers, aws: { service } });
    const text = await response.text();
    if (!response.ok) throw new Error(`${action}: ${text}`);
    return text;
  };
  const images = await call("ec2", "DescribeImages", {
    "Filter.1.Name": "architecture",
    "Filter.1.Value.1": "x86_64",
    "Filter.2.Name": "name",
    "Filter.2.Value.1": "amzn-*",
  });
  const image = /<imageId>(ami-\w+)<\/imageId>/.exec(images)?.[1] ?? "";
  const group = "runners";
  await call("autoscaling", "CreateLaunchConfiguration", {
    LaunchConfigurationName: "runner",
    ImageId: image,
    InstanceType: "t3.micro",
  });
  await call("autoscaling", "CreateAutoScalingGroup", {
    AutoScalingGroupName: group,
    LaunchConfigurationName: "runner",
    MinSize: "0",
    MaxSize: String(most),
    NewInstancesProtectedFromScaleIn: "true",
    "AvailabilityZones.member.1": `${REGION}a`,
  });
  return { env, group, call, close };
}
