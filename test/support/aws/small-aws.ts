import { once } from "node:events";
import { createServer } from "node:http";
import { text as readAll } from "node:stream/consumers";

/** As much of AWS as one Auto Scaling group needs whose instances are all at this machine's loopback address. */
export interface SmallAws {
  /** For the runner. */
  readonly env: Readonly<Record<string, string>>;
  readonly group: string;
  /** Those that run. */
  instances(): string[];
  /** Keys that were to be let in. */
  readonly keys: { readonly id: string; readonly user: string; readonly publicKey: string }[];
  close(): Promise<void>;
}

/** @param letIn a key, for an account */
export async function openSmallAws(letIn: (user: string, publicKey: string) => void): Promise<SmallAws> {
  const there = new Map<string, "Pending" | "InService">();
  const keys: SmallAws["keys"] = [];
  let made = 0;

  const answerOf = (ask: URLSearchParams, body: string): string => {
    const id = ask.get("InstanceId") ?? ask.get("InstanceId.1") ?? "";
    switch (ask.get("Action")) {
      case "DescribeAutoScalingGroups": {
        const members = [...there].map(
          ([each, state]) =>
            `<member><InstanceId>${each}</InstanceId><LifecycleState>${state}</LifecycleState></member>`,
        );
        // What was asked for is there when somebody looks again.
        for (const each of there.keys()) there.set(each, "InService");
        return `<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups><member>
<MinSize>0</MinSize><MaxSize>3</MaxSize><DesiredCapacity>${there.size}</DesiredCapacity><Instances>${members.join("")}</Instances>
<NewInstancesProtectedFromScaleIn>true</NewInstancesProtectedFromScaleIn></member></AutoScalingGroups></DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>`;
      }
      case "SetDesiredCapacity":
        while (there.size < Number(ask.get("DesiredCapacity")))
          there.set(`i-${(++made).toString(16).padStart(17, "0")}`, "Pending");
        return "<SetDesiredCapacityResponse/>";
      case "TerminateInstanceInAutoScalingGroup":
        there.delete(id);
        return "<TerminateInstanceInAutoScalingGroupResponse/>";
      case "DescribeInstances":
        return `<DescribeInstancesResponse><reservationSet>${
          there.has(id)
            ? `<item><instancesSet><item><instanceId>${id}</instanceId><instanceState><code>16</code><name>running</name></instanceState>
<placement><availabilityZone>eu-central-1a</availabilityZone></placement><privateIpAddress>127.0.0.1</privateIpAddress></item></instancesSet></item>`
            : ""
        }</reservationSet></DescribeInstancesResponse>`;
      default: {
        const { InstanceId, InstanceOSUser: user, SSHPublicKey: publicKey } = JSON.parse(body);
        keys.push({ id: InstanceId, user, publicKey });
        letIn(user, publicKey);
        return "{}";
      }
    }
  };

  const server = createServer((request, response) => {
    void readAll(request).then((body) => response.end(answerOf(new URLSearchParams(body), body)));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    env: {
      AWS_ENDPOINT_URL: `http://127.0.0.1:${port}/`,
      AWS_REGION: "eu-central-1",
      AWS_ACCESS_KEY_ID: "AKIATEST",
      AWS_SECRET_ACCESS_KEY: "a secret",
    },
    group: "runners",
    instances: () => [...there.keys()],
    keys,
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((done) => server.close(() => done()));
    },
  };
}
