import { resolve } from "node:path";
import { execa } from "execa";
import { z } from "zod";
import { SystemFailure } from "../../../src/errors.ts";
import { unlessAborted } from "../../../src/time.ts";
import type { ExecPlugin, KubeCluster } from "./kubeconfig.ts";
import type { Login, LoginSource } from "./login.ts";

const VERSIONS = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];
const LIMIT_MS = 60_000;
/** A login that expires sooner than this is not used any more. */
const MARGIN_MS = 60_000;

const answerSchema = z.object({
  status: z.object({
    token: z.string().optional(),
    clientCertificateData: z.string().optional(),
    clientKeyData: z.string().optional(),
    expirationTimestamp: z.string().optional(),
  }),
});

/** Logins from the program that the kubeconfig names. Calls that need one at the same time share one run of it. */
export function execLogins(
  plugin: ExecPlugin,
  cluster: KubeCluster,
  env: Readonly<Record<string, string | undefined>>,
  directory: string,
): LoginSource {
  let known: { readonly login: Login; readonly until: number } | null = null;
  let running: Promise<Login> | null = null;

  const run = async (): Promise<Login> => {
    if (!VERSIONS.includes(plugin.apiVersion)) {
      throw failure(
        plugin,
        `the kubeconfig wants its answer as ${plugin.apiVersion}, and known are ${VERSIONS.join(" and ")}`,
      );
    }
    if (plugin.interactiveMode === "Always") throw failure(plugin, "it has to ask a person, and there is none");
    const info = {
      apiVersion: plugin.apiVersion,
      kind: "ExecCredential",
      spec: {
        interactive: false,
        ...(plugin.provideClusterInfo
          ? { cluster: { server: cluster.server, "certificate-authority-data": cluster["certificate-authority-data"] } }
          : {}),
      },
    };
    const own = Object.fromEntries((plugin.env ?? []).map(({ name, value }) => [name, value]));
    const command = plugin.command.includes("/") ? resolve(directory, plugin.command) : plugin.command;
    const result = await execa(command, plugin.args ?? [], {
      env: { ...env, ...own, KUBERNETES_EXEC_INFO: JSON.stringify(info) },
      extendEnv: false,
      stdin: "ignore",
      timeout: LIMIT_MS,
      maxBuffer: 1024 * 1024,
      reject: false,
    });
    if (result.failed) {
      const said = String(result.stderr ?? "")
        .trim()
        .slice(-500);
      const how = result.timedOut
        ? `it does not end within ${LIMIT_MS / 1000} s`
        : `it ends with status ${result.exitCode ?? "none"}`;
      throw failure(plugin, `${how}${said === "" ? "" : `, saying: ${said}`}`);
    }
    let answer: z.output<typeof answerSchema>["status"];
    try {
      answer = answerSchema.parse(JSON.parse(String(result.stdout))).status;
    } catch {
      throw failure(plugin, "its answer is no ExecCredential");
    }
    const { token, clientCertificateData, clientKeyData, expirationTimestamp } = answer;
    const login: Login = {
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      ...(clientCertificateData === undefined || clientKeyData === undefined
        ? {}
        : { cert: clientCertificateData, key: clientKeyData }),
    };
    const end = expirationTimestamp === undefined ? Number.NaN : Date.parse(expirationTimestamp);
    known = { login, until: Number.isNaN(end) ? Infinity : end - MARGIN_MS };
    return login;
  };

  return {
    get: async (refused, signal) => {
      if (known !== null && known.login !== refused && Date.now() < known.until) return known.login;
      running ??= run().finally(() => {
        running = null;
      });
      return await unlessAborted(running, signal);
    },
  };
}

function failure(plugin: ExecPlugin, why: string): SystemFailure {
  const hint = plugin.installHint === undefined ? "" : `. ${plugin.installHint.trim()}`;
  return new SystemFailure(`The program ${plugin.command} gives no login for the cluster: ${why}${hint}`, {
    reason: "runner_configuration_error",
  });
}
