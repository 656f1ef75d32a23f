import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { openAccess } from "../../executors/kubernetes/access/access.ts";
import { createApi } from "../../executors/kubernetes/api/client.ts";
import { podCommands } from "../../executors/kubernetes/api/commands.ts";
import { podsPath } from "../../executors/kubernetes/api/pods.ts";
import kubernetes from "../../executors/kubernetes/index.ts";
import { kubernetesTable } from "../../executors/kubernetes/settings/settings.ts";
import { checkedTable } from "../../executors/kubernetes/settings/table.ts";
import { runToEnd } from "../../executors/remote/index.ts";
import { never } from "../../src/time.ts";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { executorDeps } from "../support/executor-deps.ts";
import { Sink } from "../support/executor-kit.ts";
import { imageName } from "../support/images.ts";
import { startProxy } from "../support/proxy.ts";
import { plainVariable, requestOf } from "./kubernetes-request.ts";

/** Each way to log in to a real API server, and to reach it, is tried with a call and with a program in a pod. */

const cluster = await useCluster();

describe("logins of a cluster", () => {
  if (cluster === null) {
    test.skip(`needs a cluster: ${noCluster}`, () => {});
    return;
  }
  const dir = mkdtempSync(join(tmpdir(), "alloy-logins-"));
  const { server } = cluster;
  const caFile = cluster.authority.certFile;
  let namespace: string;
  let account: string;

  const admin = async (...args: readonly string[]): Promise<string> => (await cluster.kubectl(args)).trim();
  const token = async (...args: readonly string[]): Promise<string> =>
    await admin("create", "token", "works", "-n", namespace, ...args);

  beforeAll(async () => {
    await cluster.images("sh");
    namespace = await cluster.createNamespace();
    account = `system:serviceaccount:${namespace}:works`;
    await admin("create", "serviceaccount", "works", "-n", namespace);
    // The certificate's user is `works`, too.
    const bound = ["--clusterrole=edit", `--serviceaccount=${namespace}:works`, "--user=works"];
    await admin("create", "rolebinding", "works", "-n", namespace, ...bound);
    await admin(
      "run",
      "there",
      "-n",
      namespace,
      `--image=${imageName("sh")}`,
      "--restart=Never",
      "--",
      "sleep",
      "1000",
    );
    await admin("wait", "--for=condition=Ready", "pod/there", "-n", namespace, "--timeout=60s");
    await openInside();
  }, 120_000);
  afterAll(() => {
    inside.api.close();
    rmSync(dir, { recursive: true, force: true });
  });

  /** The login of a pod, from the pod's own token. */
  let inside: { readonly api: Awaited<ReturnType<typeof apiFor>>; readonly first: string };
  const { hostname, port } = new URL(server);
  const INSIDE = { KUBERNETES_SERVICE_HOST: hostname, KUBERNETES_SERVICE_PORT: port };
  async function openInside(): Promise<void> {
    await admin("create", "secret", "generic", "bound", "-n", namespace);
    const first = await token("--bound-object-kind=Secret", "--bound-object-name=bound");
    file("token", first);
    file("ca.crt", readFileSync(caFile, "utf8"));
    file("namespace", `${namespace}\n`);
    const { connection, retry } = kubernetesTable.parse({});
    const access = await openAccess({ connection, env: INSIDE, working: dir, serviceAccountDir: dir });
    inside = { api: createApi(access, retry), first };
    await works(inside.api);
    // The token ends with the secret that it is bound to, once the server has forgotten it, which takes 10 s.
    await admin("delete", "secret", "bound", "-n", namespace);
  }

  const it = (title: string, body: () => Promise<void>): void => test(title, body, 60_000);

  type Env = Readonly<Record<string, string | undefined>>;
  async function apiFor(table: Readonly<Record<string, unknown>>, env: Env = {}, serviceAccountDir?: string) {
    const { connection, retry } = kubernetesTable.parse(table);
    const options = { connection, env, working: dir };
    const access = await openAccess({ ...options, ...(serviceAccountDir === undefined ? {} : { serviceAccountDir }) });
    const api = createApi(access, retry);
    onTestFinished(() => api.close());
    return api;
  }
  const pod = { what: "look", method: "GET", path: "" } as const;
  async function works(api: Awaited<ReturnType<typeof apiFor>>): Promise<void> {
    expect(await api.call({ ...pod, path: podsPath(namespace, "there") }, never)).toMatchObject({ kind: "Pod" });
    const commands = podCommands({ api, namespace, pod: "there", container: "there", lost: async () => null });
    const { code, stdout } = await runToEnd(commands, { script: "echo by exec", args: [] }, 1024, never);
    expect({ code, text: stdout.toString() }).toEqual({ code: 0, text: "by exec\n" });
  }

  function file(name: string, text: string): string {
    const path = join(dir, name);
    writeFileSync(path, text);
    return path;
  }
  function kubeconfig(name: string, user: object, its: object = {}): Env {
    const authority = { server, "certificate-authority": caFile };
    const path = file(
      name,
      JSON.stringify({
        apiVersion: "v1",
        kind: "Config",
        clusters: [
          { name: "nowhere", cluster: { server: "https://127.0.0.1:1" } },
          { name: "test", cluster: { ...authority, ...its } },
        ],
        users: [{ name: "works", user }],
        contexts: [
          { name: "dead", context: { cluster: "nowhere", user: "works" } },
          { name: "live", context: { cluster: "test", user: "works", namespace } },
        ],
        "current-context": "live",
      }),
    );
    return { KUBECONFIG: path, PATH: process.env.PATH };
  }
  /** A client certificate of the cluster's authority, for the user `works`, as files. */
  function certificate(name: string, days: number): { cert_file: string; key_file: string } {
    const [key, request, cert] = ["key", "csr", "crt"].map((end) => join(dir, `${name}.${end}`));
    const openssl = (...args: readonly (string | undefined)[]) =>
      execFileSync("openssl", args.map(String), { stdio: "pipe" });
    openssl(
      "req",
      "-new",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-keyout",
      key,
      "-subj",
      "/CN=works",
      "-out",
      request,
    );
    const { certFile, keyFile } = cluster?.authority ?? { certFile: "", keyFile: "" };
    openssl(
      "x509",
      "-req",
      "-in",
      request,
      "-CA",
      certFile,
      "-CAkey",
      keyFile,
      "-set_serial",
      "7",
      "-days",
      String(days),
      "-out",
      cert,
    );
    return { cert_file: String(cert), key_file: String(key) };
  }

  it("host with a token, and with a client certificate that is renewed on disk after it ran out", async () => {
    await works(await apiFor({ host: server, ca_file: caFile, bearer_token: await token() }));
    await works(await apiFor({ host: server.replace("https://", ""), ca_file: caFile, ...certificate("whole", 1) }));

    const files = certificate("over", -1);
    const api = await apiFor({ host: server, ca_file: caFile, ...files });
    await expect(api.call({ ...pod, path: podsPath(namespace, "there") }, never)).rejects.toThrow(
      /Unauthorized|expired/i,
    );
    certificate("over", 1);
    await works(api);
    const unknown = apiFor({ host: server, bearer_token: "t", retry_limit: 1 });
    await expect((await unknown).call({ ...pod, path: "/version" }, never)).rejects.toThrow(/certificate/);
  });

  it("a job's own token is all that its calls are made with, also where the entry has a certificate", async () => {
    await admin("create", "serviceaccount", "idle", "-n", namespace);
    const own = await admin("create", "token", "idle", "-n", namespace);
    const table = checkedTable.parse({
      ...{ host: server, ca_file: caFile, namespace, image: imageName("sh"), bearer_token_overwrite_allowed: true },
      ...certificate("entry", 1),
    });
    const executor = kubernetes.create({ kubernetes: table }, executorDeps(dir));
    onTestFinished(() => executor.close(never));
    const request = requestOf({ variables: [plainVariable("KUBERNETES_BEARER_TOKEN", own)] });
    await expect(executor.prepare(request, new Sink(), never)).rejects.toThrow(/login may not create pods/);
  });

  it("a kubeconfig's contexts, token files, certificates and acting for others", async () => {
    const fine = { token: await token() };
    await works(await apiFor({}, kubeconfig("token", fine)));
    await works(await apiFor({ context: "live" }, kubeconfig("named", fine)));
    const dead = await apiFor({ context: "dead", retry_limit: 1 }, kubeconfig("other", fine));
    await expect(dead.call({ ...pod, path: "/version" }, never)).rejects.toThrow(/127\.0\.0\.1:1 cannot be reached/);
    file("a-token", fine.token);
    await works(await apiFor({}, kubeconfig("file", { tokenFile: "a-token" })));
    const { cert_file, key_file } = certificate("mine", 1);
    await works(await apiFor({}, kubeconfig("cert", { "client-certificate": cert_file, "client-key": key_file })));
    const data = (path: string): string => readFileSync(path).toString("base64");
    const inline = { "client-certificate-data": data(cert_file), "client-key-data": data(key_file) };
    const ca = { "certificate-authority": undefined, "certificate-authority-data": data(caFile) };
    await works(await apiFor({}, kubeconfig("data", inline, ca)));
    await works(
      await apiFor(
        {},
        kubeconfig("blind", fine, { "certificate-authority": undefined, "insecure-skip-tls-verify": true }),
      ),
    );
    const boss = /token: (\S+)/.exec(readFileSync(cluster.kubeconfig, "utf8"))?.[1];
    await works(await apiFor({}, kubeconfig("as", { token: boss, as: account })));
    const nobody = await apiFor({}, kubeconfig("as-nobody", { token: boss, as: "nobody" }));
    await expect(nobody.call({ ...pod, path: podsPath(namespace) }, never)).rejects.toThrow(
      /User "nobody" cannot list/,
    );
  });

  it("an exec plugin's token and certificate; a refused token has it run again", async () => {
    const program = (text: string): object => {
      const path = file(`plugin-${Math.random()}`, `#!/bin/sh\n${text}\n`);
      chmodSync(path, 0o755);
      return {
        exec: { command: path, apiVersion: "client.authentication.k8s.io/v1", env: [{ name: "TOKEN", value: fine }] },
      };
    };
    const fine = await token();
    const counted = join(dir, "runs");
    const answer = `printf '{"status": {"token": "%s"}}'`;
    await works(
      await apiFor(
        {},
        kubeconfig(
          "exec",
          program(`echo >>${counted}; [ "$(wc -l <${counted})" -gt 1 ] || TOKEN=stale; ${answer} "$TOKEN"`),
        ),
      ),
    );
    expect(readFileSync(counted, "utf8")).toBe("\n\n");
    const { cert_file, key_file } = certificate("plugin", 1);
    const status = {
      clientCertificateData: readFileSync(cert_file, "utf8"),
      clientKeyData: readFileSync(key_file, "utf8"),
    };
    const said = file("certificate.json", JSON.stringify({ status }));
    await works(await apiFor({}, kubeconfig("exec-cert", program(`cat ${said}`))));
    const failing = await apiFor({}, kubeconfig("exec-fails", program("echo who are you >&2; exit 3")));
    await expect(failing.call({ ...pod, path: "/version" }, never)).rejects.toThrow(/status 3, saying: who are you/);
    const missing = await apiFor(
      {},
      kubeconfig("exec-missing", {
        exec: {
          command: "no-such-plugin",
          apiVersion: "client.authentication.k8s.io/v1",
          installHint: "Get it from ops.",
        },
      }),
    );
    await expect(missing.call({ ...pod, path: "/version" }, never)).rejects.toThrow(
      /no-such-plugin gives no login .*Get it from ops/,
    );
  });

  it("through a proxy, which sees addresses only", async () => {
    const { host: place, hostname, port } = new URL(server);
    const proxy = await startProxy({ places: { [place]: { host: hostname, port: Number(port) } }, login: "me:a b" });
    onTestFinished(() => proxy.close());
    const table = { host: server, ca_file: caFile, bearer_token: await token(), retry_limit: 1 };
    const url = `http://me:a%20b@${proxy.host}`;
    await works(await apiFor(table, { HTTPS_PROXY: url }));
    // Calls share one connection, and each program has its own.
    expect(proxy.asked).toEqual([`CONNECT ${place} 200`, `CONNECT ${place} 200`]);
    await works(await apiFor({}, kubeconfig("proxied", { token: await token() }, { "proxy-url": url })));
    expect(proxy.asked).toHaveLength(4);
    await works(await apiFor(table, { https_proxy: url, no_proxy: "10.0.0.0/8" }));
    expect(proxy.asked).toHaveLength(4);

    const call = async (env: Env) => await (await apiFor(table, env)).call({ ...pod, path: "/version" }, never);
    await expect(call({ HTTPS_PROXY: `http://${proxy.host}` })).rejects.toThrow(
      /wants a user and a password \(407\).*HTTPS_PROXY/,
    );
    await expect(call({ HTTPS_PROXY: "http://127.0.0.1:1" })).rejects.toThrow(
      /proxy http:\/\/127\.0\.0\.1:1: .*ECONNREFUSED/,
    );
    await expect(call({ HTTPS_PROXY: "socks5://x" })).rejects.toThrow(
      /HTTPS_PROXY: "socks5:" proxies are not supported/,
    );
  });

  it("a pod finds its cluster, and reads its token again once the old one is refused", async () => {
    const { api, first } = inside;
    expect(api.access.namespace).toBe(namespace);
    const plain = await apiFor({ host: server, ca_file: caFile, bearer_token: first });
    await vi.waitFor(
      async () =>
        await expect(plain.call({ ...pod, path: podsPath(namespace) }, never)).rejects.toThrow(/Unauthorized/),
      { timeout: 30_000, interval: 500 },
    );
    file("token", await token());
    await works(api);
    // A context is always one of a kubeconfig, also in a pod.
    const named = await apiFor(
      { context: "live" },
      { ...INSIDE, ...kubeconfig("inside", { token: await token() }) },
      dir,
    );
    await works(named);
  });
});
