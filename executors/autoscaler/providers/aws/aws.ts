import { generateKeyPair } from "node:crypto";
import { promisify } from "node:util";
import type { AwsLogin } from "../../../../src/cloud/aws/login.ts";
import { SystemFailure } from "../../../../src/errors.ts";
import type { Log } from "../../../../src/log.ts";
import type { Seen } from "../../../scaler/index.ts";
import { publicKeyOf } from "../../../ssh/over-ssh.ts";
import type { Address, Cloud } from "../instance.ts";
import { anyAnswer, type Group, groupsAnswer, instancesAnswer } from "./answers.ts";
import type { AwsApi } from "./api.ts";
import { AwsRefusal } from "./refusal.ts";

export interface AwsSettings extends Omit<AwsLogin, "advice"> {
  /** Of the Auto Scaling group. */
  readonly group: string;
}

export interface AwsOptions {
  readonly settings: AwsSettings;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The account to log in as, and whether a key is to be sent there; asked for at each login. */
  readonly login: () => { readonly user: string | undefined; readonly sendsKey: boolean };
  readonly log: Log;
}

/** Of Amazon's own images. */
const DEFAULT_USER = "ec2-user";
/** EC2 Instance Connect lets a key in for 60 s. */
const KEY_LASTS_MS = 45_000;
const GONE: ReadonlySet<string> = new Set(["shutting-down", "terminated"]);

/** Instances of an Auto Scaling group, which are logged in to with keys that EC2 Instance Connect lets in for a minute. */
export function awsProvider({ settings, environment, login, log }: AwsOptions): Cloud {
  let opened: Promise<AwsApi> | null = null;
  const api = async (): Promise<AwsApi> => {
    opened ??= import("./api.ts").then(({ openApi }) => openApi(settings, environment));
    const mine = opened;
    return await mine.catch((error: unknown) => {
      if (opened === mine) opened = null;
      throw error;
    });
  };
  let keys: Promise<KeyPair> | null = null;

  const look = async (signal: AbortSignal): Promise<Group> => {
    const parameters = { "AutoScalingGroupNames.member.1": settings.group };
    const action = "DescribeAutoScalingGroups";
    const call = { service: "autoscaling", action, parameters, answer: groupsAnswer } as const;
    const [group] = await (await api()).query(call, signal);
    if (group !== undefined) return group;
    throw new SystemFailure(`There is no Auto Scaling group "${settings.group}" in this region of AWS`, {
      reason: "runner_configuration_error",
    });
  };

  const change = async (action: string, parameters: Readonly<Record<string, string>>, signal: AbortSignal) =>
    void (await (await api()).query({ service: "autoscaling", action, parameters, answer: anyAnswer }, signal));

  /** `null`: there is none (any more). */
  const describe = async (id: string, signal: AbortSignal) => {
    const call = {
      service: "ec2",
      action: "DescribeInstances",
      parameters: { "InstanceId.1": id },
      answer: instancesAnswer,
    } as const;
    try {
      const [found] = await (await api()).query(call, signal);
      return found === undefined || GONE.has(found.state) ? null : found;
    } catch (error) {
      if (error instanceof AwsRefusal && error.code === "InvalidInstanceID.NotFound") return null;
      throw error;
    }
  };

  /** @returns the private key that is let in, and until when */
  const sendKey = async (id: string, zone: string, signal: AbortSignal) => {
    keys ??= makeKeys();
    const { publicKey, privateKey } = await keys;
    const expires = Date.now() + KEY_LASTS_MS;
    const user = login().user ?? DEFAULT_USER;
    const body = { InstanceId: id, InstanceOSUser: user, SSHPublicKey: publicKey, AvailabilityZone: zone };
    const target = "AWSEC2InstanceConnectService.SendSSHPublicKey";
    await (await api()).json({ service: "ec2-instance-connect", target, body }, signal);
    return { key: privateKey, expires };
  };

  return {
    lasting: false,
    async init(signal) {
      const { least, isProtected, zones, suspended } = await look(signal);
      const { group } = settings;
      if (least > 0) {
        throw new SystemFailure(
          `The Auto Scaling group "${group}" keeps ${least} instances: set its minimum to 0, or none of those can be removed`,
          { reason: "runner_configuration_error" },
        );
      }
      if (!isProtected) {
        log.warn("AWS may remove instances under their jobs: switch on the group's protection from scale-in", {
          group,
        });
      }
      if (zones.length > 1 && !suspended.includes("AZRebalance")) {
        log.warn("AWS may move instances between zones, under their jobs: suspend AZRebalance of the group", { group });
      }
    },
    async list(signal) {
      return (await look(signal)).instances.map(({ id, state }) => ({ id, state: stateOf(state) }));
    },
    async grow(count, signal) {
      const { desired, most } = await look(signal);
      const next = Math.min(desired + count, most);
      if (next <= desired) return 0;
      const parameters = {
        AutoScalingGroupName: settings.group,
        DesiredCapacity: String(next),
        HonorCooldown: "false",
      };
      await change("SetDesiredCapacity", parameters, signal);
      return next - desired;
    },
    async shrink(ids, signal) {
      const wanted = new Set(ids);
      const problems: unknown[] = [];
      for (const { id, state } of (await look(signal)).instances) {
        if (!wanted.has(id) || stateOf(state) === "deleting") continue;
        const parameters = { InstanceId: id, ShouldDecrementDesiredCapacity: "true" };
        await change("TerminateInstanceInAutoScalingGroup", parameters, signal).catch((error: unknown) => {
          signal.throwIfAborted();
          problems.push(error);
        });
      }
      if (problems.length > 0) throw problems[0];
    },
    async connect(id, signal) {
      const found = await describe(id, signal);
      if (found === null) throw new SystemFailure(`There is no instance ${id} in EC2 any more`);
      const { zone, internal, external, isWindows } = found;
      if (isWindows) {
        throw new SystemFailure(`The instance ${id} runs Windows: jobs need a POSIX shell on their instance`, {
          reason: "runner_configuration_error",
        });
      }
      if (internal === null && external === null) {
        throw new SystemFailure(`The instance ${id} has no address yet`, { retry: true });
      }
      const { user, sendsKey } = login();
      const { key, expires } = sendsKey ? await sendKey(id, zone, signal) : { key: undefined, expires: undefined };
      return {
        internal: addressOf(internal),
        external: addressOf(external),
        user: user ?? DEFAULT_USER,
        password: undefined,
        key,
        keyFile: undefined,
        hostKeys: [],
        expires,
      };
    },
    // Whether jobs could be there tells who logs in.
    check: async () => {},
    exists: async (id, signal) => (await describe(id, signal)) !== null,
    close: async () => {},
  };
}

function stateOf(lifecycle: string): Seen["state"] {
  if (lifecycle.startsWith("Pending")) return "creating";
  return lifecycle.startsWith("Terminat") ? "deleting" : "running";
}

function addressOf(host: string | null): Address | null {
  return host === null ? null : { host, port: null };
}

interface KeyPair {
  readonly publicKey: string;
  readonly privateKey: string;
}

/** Of this process alone. */
async function makeKeys(): Promise<KeyPair> {
  // Not Ed25519: what ssh2 makes of that it does not read again, and Node writes no form that it reads.
  const made = await promisify(generateKeyPair)("rsa", {
    modulusLength: 2048,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs1", format: "pem" },
  });
  const [blob] = await publicKeyOf(Buffer.from(made.privateKey));
  if (blob === undefined) throw new SystemFailure("A key that was just made cannot be read");
  return { publicKey: `ssh-rsa ${blob.toString("base64")}`, privateKey: made.privateKey };
}
