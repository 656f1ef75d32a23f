import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import dockerSshMachine from "../../executors/docker-ssh-machine/index.ts";
import { wayThrough } from "../../executors/docker-ssh-machine/way.ts";
import { sshTable } from "../../executors/ssh/settings.ts";
import type { Measured } from "../../src/executor/deps.ts";
import { never } from "../../src/time.ts";
import { executorContract } from "../contract/executor.ts";
import { imageName, noEngine, sshPassword, testEngine } from "../support/docker.ts";
import { addressesOfMachines } from "../support/docker-machine/stand.ts";
import { executorDeps } from "../support/executor-deps.ts";
import { runOps, Sink, sampleRequest, source } from "../support/executor-kit.ts";
import { loginUser, type Sshd, sshdMissing, startSshd } from "../support/sshd.ts";
import { machinesOfSuite } from "./docker-machine-stand.ts";
import { TIMEOUT_MS } from "./docker-stand.ts";

const engine = await testEngine("docker");
const missing = sshdMissing();
const ssh = { user: "root", password: sshPassword };
/** An sshd listens at 16 of them at most. */
const ADDRESSES = 15;

test("containers are reached through their machine's sshd, with docker-machine's key, or as the operator says", () => {
  const login = { user: "ubuntu", port: 2222, identityFile: "/store/id_rsa" };
  const machine = { host: "tcp://[2001:db8::1]:2376", tlsCertPath: "/store", login };
  const table = sshTable.parse(ssh);
  expect(wayThrough(machine, table, false)).toEqual({
    ...table,
    jump: {
      host: "2001:db8::1",
      port: 2222,
      user: "ubuntu",
      identity_file: "/store/id_rsa",
      disable_strict_host_key_checking: true,
    },
  });
  const own = sshTable.parse({ ...ssh, jump: { host: "bastion" } });
  expect(wayThrough(machine, own, false)).toBe(own);
  expect(() => wayThrough({ ...machine, login: null }, table, false)).toThrow(/no SSH key .*\[runners.ssh.jump\]/);
  expect(wayThrough({ ...machine, login: null }, table, true)).toBe(table);
});

describe("docker-ssh+machine executor", () => {
  if (engine === null || missing !== null) {
    test.skip(missing ?? noEngine("docker"), () => {});
    return;
  }
  let sshd: Sshd;
  let machineUser = "";
  beforeAll(async () => {
    const config = addressesOfMachines(ADDRESSES).map((address) => `ListenAddress ${address}`);
    // Machines of a cloud have an sshd each.
    sshd = await startSshd({ config: ["MaxStartups 200", ...config].join("\n") });
    machineUser = loginUser(sshd).name;
  }, TIMEOUT_MS);
  afterAll(() => sshd?.close());
  const { stand, machines } = machinesOfSuite(engine, ["git", "sshd"], {
    definition: dockerSshMachine,
    tables: { ssh },
    image: "sshd",
    addresses: ADDRESSES,
    login: () => ({ user: machineUser, port: sshd.port, identityFile: sshd.keyFile }),
  });

  executorContract("docker-ssh+machine", {
    open: async (options) => stand().open({}, options),
    timeoutMs: TIMEOUT_MS,
    jobsAtOnce: 5,
    shared: true,
    skip: [
      {
        test: "jobs at the same time have directories of their own, also when their projects nest",
        because: "each has a machine of its own, and there the first of its project's directories",
      },
      {
        test: "the next job finds the checkout of the last one, and none of its temporary files",
        because: "each job has a container of its own, and its checkout lies in the account's home there",
      },
      {
        test: "jobs of different trust find nothing of one another, and have slots as those of one",
        because: "no job finds anything of another, whatever their trust",
      },
      {
        test: "a job builds its commit, whatever the last one left in the index and the objects",
        because: "the last one left nothing",
      },
    ],
  });

  test(
    "a job is on its machine, by way of the machine's sshd, and counts under the Go runner's names",
    async () => {
      const counted: string[] = [];
      const gauges = new Map<string, () => readonly Measured[]>();
      const id = randomBytes(4).toString("hex");
      const deps = executorDeps(stand().dir, { env: { ...process.env, ...machines().env } });
      const executor = dockerSshMachine.create(
        {
          docker: { image: imageName("sshd"), helper_image: imageName("git"), pull_policy: "never" },
          // Its removal begins with the end of its job, and the executor is closed at once.
          machine: { MachineDriver: "none", MachineName: "auto-%s", IdleTime: 0, shutdown_drain: { enabled: true } },
          ssh,
        },
        {
          ...deps,
          entry: { ...deps.entry, machines: { runnerId: id, shortTokens: [id], limit: 2 } },
          meter: {
            gauge: (name, _help, _labels, read) => void gauges.set(name, read),
            counter: (name) => (labels) => void counted.push(`${name} ${labels?.action}`),
            histogram: (name) => () => void counted.push(name),
          },
        },
      );
      try {
        const reservation = await executor.reserve?.(never);
        const request = { ...sampleRequest(), runnerId: stand().runner() };
        const environment = await executor.prepare(
          reservation === null || reservation === undefined ? request : { ...request, reservation },
          new Sink(),
          never,
        );
        const name = machines()
          .machines()
          .find((one) => one.startsWith(`runner-${id}-`));
        expect(environment.host).toContain(`machine ${name}`);
        expect((await runOps(environment, source("echo ${SSH_CONNECTION:+ssh}"))).text).toBe("ssh\n");
        expect(sshd.log()).toContain(`Accepted publickey for ${machineUser}`);
        expect(gauges.get("ci_ssh_docker_machines_provider_machine_states")?.()).toContainEqual({
          labels: { state: "used" },
          value: 1,
        });
        expect(counted).toEqual(
          expect.arrayContaining([
            "ci_ssh_docker_machines_provider_actions_total created",
            "ci_ssh_docker_machines_provider_machine_creation_duration_seconds",
            "ci_ssh_docker_machines_provider_actions_total used",
          ]),
        );
        await environment.destroy(never);
        await reservation?.[Symbol.asyncDispose]();
      } finally {
        await executor.close(never);
      }
      expect(
        machines()
          .machines()
          .filter((one) => one.startsWith(`runner-${id}-`)),
      ).toEqual([]);
    },
    TIMEOUT_MS,
  );
});
