import { expect, onTestFinished, test } from "vitest";
import { openSmallAws } from "../support/aws/small-aws.ts";
import { openSite } from "../support/site.ts";
import { authorize, loginUser, sshdMissing, startSshd } from "../support/sshd.ts";

const missing = sshdMissing();

test.skipIf(missing !== null)(
  `a job runs on an instance of an Auto Scaling group, by a key that EC2 Instance Connect lets in${missing ?? ""}`,
  { timeout: 180_000 },
  async () => {
    const sshd = await startSshd();
    onTestFinished(() => sshd.close());
    const user = loginUser(sshd);
    const aws = await openSmallAws((name, key) => {
      if (name === user.name) authorize(sshd, key);
    });
    onTestFinished(() => aws.close());
    const entryOf = (policy: string): string => `[runners.autoscaler]
plugin = "aws:latest"
update_interval = "1s"
update_interval_when_expecting = "200ms"
[runners.autoscaler.plugin_config]
name = "${aws.group}"
[runners.autoscaler.connector_config]
username = "${user.name}"
protocol_port = ${sshd.port}
[[runners.autoscaler.policy]]
${policy}`;
    const site = await openSite({
      dialect: "gitlab",
      executor: "instance",
      entry: entryOf('idle_count = 1\nidle_time = "10m"'),
      run: { env: aws.env },
    });
    onTestFinished(() => site.close());
    const job = site.coordinator.enqueue({ script: ["echo as $(id -un)"] });
    expect((await job.reported({ timeoutMs: 120_000 })).state, site.runner.stderr()).toBe("success");
    expect(job.trace).toMatch(/Using instance i-0{16}\d/);
    expect(job.trace).toContain(`as ${user.name}\n`);
    expect(aws.keys[0]).toMatchObject({ id: aws.instances()[0], user: user.name });
    expect(aws.keys[0]?.publicKey).toMatch(/^ssh-rsa /);

    await site.configure({ entry: entryOf('idle_time = "0s"') });
    site.runner.child.kill("SIGHUP");
    await expect.poll(() => aws.instances(), { timeout: 60_000 }).toEqual([]);
    expect(site.runner.stderr()).not.toContain("a secret");
  },
);
