import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import { type HttpProxy, parseProxy, proxyFor } from "../../../src/proxy/proxy.ts";
import { homeDirectory } from "../../common/places/home.ts";
import type { KubernetesSettings } from "../settings/settings.ts";
import { execLogins } from "./exec-plugin.ts";
import { type KubeContext, kubeconfigPaths, readKubeconfig } from "./kubeconfig.ts";
import type { Login, LoginSource } from "./login.ts";

/** How one cluster is reached. */
export interface Access {
  /** `https://10.0.0.1:6443`, with a path where it has one, without a slash at the end. */
  readonly server: string;
  readonly ca: string | undefined;
  readonly serverName: string | undefined;
  /** The server's certificate is not checked, because the kubeconfig says so. */
  readonly insecure: boolean;
  /** The HTTP proxy through which the server is reached. */
  readonly proxy: HttpProxy | undefined;
  readonly logins: LoginSource;
  /** The namespace that the runner's own pod, or the context, is in. */
  readonly namespace: string | undefined;
}

export interface AccessOptions {
  readonly connection: KubernetesSettings["connection"];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Base of relative paths. */
  readonly working: string;
  /** Where a pod finds what it needs to reach its own cluster. */
  readonly serviceAccountDir?: string;
}

const SERVICE_ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount";
/** Files are read again after this time, because other programs renew the tokens and certificates in them. */
const REREAD_MS = 60_000;

async function read(path: string, what: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new SystemFailure(`${what} ${path} cannot be read: ${describeError(error)}`, {
      reason: "runner_configuration_error",
      cause: error,
    });
  }
}

/** Reads what is in files again, at most once a minute, and at once where the server refused what was in them. */
function rereading(make: () => Promise<Login>): LoginSource {
  let known: { readonly login: Login; readonly readAt: number } | null = null;
  return {
    get: async (refused) => {
      if (known !== null && known.login !== refused && performance.now() - known.readAt < REREAD_MS) return known.login;
      known = { login: await make(), readAt: performance.now() };
      return known.login;
    },
  };
}

const bearer = (token: string | undefined): Record<string, string> =>
  token === undefined || token === "" ? {} : { authorization: `Bearer ${token.trim()}` };

/** The proxy that the kubeconfig names, or else the one in the runner's environment, as for the coordinator. */
function proxyOn(server: string, env: AccessOptions["env"], named?: string): HttpProxy | undefined {
  if (server.startsWith("http:")) return undefined;
  try {
    return named === undefined ? proxyFor(new URL(server), env) : parseProxy(named, "proxy-url of the kubeconfig");
  } catch (cause) {
    throw new SystemFailure(describeError(cause), { reason: "runner_configuration_error", cause });
  }
}

/** An address without a scheme, such as `10.0.0.1:6443`, means HTTPS. */
function serverOf(text: string): string {
  return (/^https?:\/\//i.test(text) ? text : `https://${text}`).replace(/\/+$/, "");
}

/** @throws {SystemFailure} no way to a cluster is known, or it is not usable */
export async function openAccess({ connection, env, working, serviceAccountDir }: AccessOptions): Promise<Access> {
  const { host, context, certFile, keyFile, caFile, bearerToken } = connection;
  if (host !== undefined) {
    const at = (path: string): string => resolve(working, path);
    const server = serverOf(host);
    return {
      server,
      proxy: proxyOn(server, env),
      ca: caFile === undefined ? undefined : await read(at(caFile), "ca_file"),
      serverName: undefined,
      insecure: false,
      namespace: undefined,
      logins: rereading(async () => ({
        headers: bearer(bearerToken),
        ...(certFile === undefined || keyFile === undefined
          ? {}
          : { cert: await read(at(certFile), "cert_file"), key: await read(at(keyFile), "key_file") }),
      })),
    };
  }
  const { KUBERNETES_SERVICE_HOST: inside, KUBERNETES_SERVICE_PORT: port = "443" } = env;
  if (inside && context === undefined) {
    const server = `https://${inside.includes(":") ? `[${inside}]` : inside}:${port}`;
    return await inCluster(server, serviceAccountDir ?? SERVICE_ACCOUNT_DIR, env);
  }
  return await fromKubeconfig(await readKubeconfig(kubeconfigPaths(env, homeDirectory()), context), env);
}

async function inCluster(server: string, directory: string, env: AccessOptions["env"]): Promise<Access> {
  const token = join(directory, "token");
  return {
    server,
    proxy: proxyOn(server, env),
    ca: await read(join(directory, "ca.crt"), "The cluster's authority"),
    serverName: undefined,
    insecure: false,
    namespace: (await read(join(directory, "namespace"), "The pod's namespace")).trim() || undefined,
    logins: rereading(async () => ({ headers: bearer(await read(token, "The pod's token")) })),
  };
}

async function fromKubeconfig(context: KubeContext, env: AccessOptions["env"]): Promise<Access> {
  const { cluster, user, clusterDir, userDir } = context;
  const server = serverOf(cluster.server);
  const file = cluster["certificate-authority"];
  return {
    server,
    proxy: proxyOn(server, env, cluster["proxy-url"]),
    ca: await pemOf(cluster["certificate-authority-data"], file, clusterDir, "certificate-authority"),
    serverName: cluster["tls-server-name"],
    insecure: cluster["insecure-skip-tls-verify"] === true,
    namespace: context.namespace,
    logins: loginsOf(context, env, userDir, user),
  };
}

async function pemOf(
  data: string | undefined,
  file: string | undefined,
  directory: string,
  what: string,
): Promise<string | undefined> {
  if (data !== undefined) return Buffer.from(data, "base64").toString("utf8");
  return file === undefined ? undefined : await read(resolve(directory, file), `${what} of the kubeconfig,`);
}

function loginsOf(
  { cluster, name }: KubeContext,
  env: AccessOptions["env"],
  directory: string,
  user: KubeContext["user"],
): LoginSource {
  if (user["auth-provider"]) {
    throw new SystemFailure(
      `The kubeconfig's context "${name}" logs in by an auth-provider (${user["auth-provider"].name ?? "?"}), which Kubernetes has given up. Use the exec plugin that replaced it`,
      { reason: "runner_configuration_error" },
    );
  }
  const impersonation: Record<string, string | string[]> = {
    ...(user.as === undefined ? {} : { "impersonate-user": user.as }),
    ...(user["as-uid"] === undefined ? {} : { "impersonate-uid": user["as-uid"] }),
    ...(user["as-groups"] ? { "impersonate-group": user["as-groups"] } : {}),
  };
  const basic =
    user.username === undefined
      ? {}
      : { authorization: `Basic ${Buffer.from(`${user.username}:${user.password ?? ""}`).toString("base64")}` };
  if (user.exec) {
    const plugin = execLogins(user.exec, cluster, env, directory);
    const made = new WeakMap<Login, Login>();
    return {
      get: async (refused, signal) => {
        const inner = await plugin.get(refused === null ? null : (made.get(refused) ?? null), signal);
        const login = { ...inner, headers: { ...inner.headers, ...impersonation } };
        made.set(login, inner);
        return login;
      },
    };
  }
  return rereading(async () => {
    const token =
      user.token ??
      (user.tokenFile === undefined ? undefined : await read(resolve(directory, user.tokenFile), "tokenFile"));
    const cert = await pemOf(
      user["client-certificate-data"],
      user["client-certificate"],
      directory,
      "client-certificate",
    );
    const key = await pemOf(user["client-key-data"], user["client-key"], directory, "client-key");
    return {
      headers: { ...basic, ...bearer(token), ...impersonation },
      ...(cert === undefined || key === undefined ? {} : { cert, key }),
    };
  });
}
