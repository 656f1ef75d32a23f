import { readFile } from "node:fs/promises";
import { delimiter, dirname, join, resolve } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { describeError, SystemFailure } from "../../../src/errors.ts";

const text = z
  .string()
  .nullish()
  .transform((value) => (value ? value : undefined));

const cluster = z.object({
  server: z.string(),
  "certificate-authority": text,
  "certificate-authority-data": text,
  "insecure-skip-tls-verify": z.boolean().nullish(),
  "tls-server-name": text,
  "proxy-url": text,
});
const execPlugin = z.object({
  command: z.string(),
  args: z.array(z.string()).nullish(),
  env: z.array(z.object({ name: z.string(), value: z.string() })).nullish(),
  apiVersion: z.string(),
  installHint: text,
  provideClusterInfo: z.boolean().nullish(),
  interactiveMode: text,
});
const user = z.object({
  token: text,
  tokenFile: text,
  "client-certificate": text,
  "client-certificate-data": text,
  "client-key": text,
  "client-key-data": text,
  username: text,
  password: text,
  as: text,
  "as-groups": z.array(z.string()).nullish(),
  "as-uid": text,
  exec: execPlugin.nullish(),
  "auth-provider": z.object({ name: text }).nullish(),
});
const context = z.object({ cluster: z.string(), user: z.string().nullish(), namespace: text });
const named = <T extends string, S extends z.ZodType>(key: T, schema: S) =>
  z
    .array(z.object({ name: z.string() }).and(z.record(z.literal(key), schema)))
    .nullish()
    .transform((list) => list ?? []);
const fileSchema = z.object({
  "current-context": text,
  clusters: named("cluster", cluster),
  users: named("user", user),
  contexts: named("context", context),
});

export type KubeCluster = z.output<typeof cluster>;
export type KubeUser = z.output<typeof user>;
export type ExecPlugin = z.output<typeof execPlugin>;

/** What one context of the kubeconfig leads to. */
export interface KubeContext {
  readonly name: string;
  readonly cluster: KubeCluster;
  readonly user: KubeUser;
  readonly namespace: string | undefined;
  /** Directories of the files that these parts come from: relative paths in them begin there. */
  readonly clusterDir: string;
  readonly userDir: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

function configuration(message: string, cause?: unknown): SystemFailure {
  return new SystemFailure(message, { reason: "runner_configuration_error", cause });
}

/** Paths of the kubeconfig's files, the first one first. */
export function kubeconfigPaths(env: Environment, home: string): string[] {
  const given = (env.KUBECONFIG ?? "").split(delimiter).filter((path) => path !== "");
  return given.length > 0 ? given : [join(home, ".kube", "config")];
}

/**
 * The context that is asked for, or the current one. Where several files have something of the same name, the first
 * file's counts, as for kubectl.
 * @throws {SystemFailure} no file can be read, or there is no such context
 */
export async function readKubeconfig(paths: readonly string[], wanted: string | undefined): Promise<KubeContext> {
  const files: { path: string; content: z.output<typeof fileSchema> }[] = [];
  for (const path of paths) {
    let content: string;
    try {
      content = await readFile(path, "utf8");
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") continue;
      throw configuration(`The kubeconfig ${path} cannot be read: ${describeError(error)}`, error);
    }
    let data: unknown;
    try {
      data = parse(content);
    } catch (error) {
      // The parser's message is left out: it quotes the line, which may hold a token.
      throw configuration(`The kubeconfig ${path} is no YAML`, error instanceof Error ? undefined : error);
    }
    const parsed = fileSchema.safeParse(data ?? {});
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      throw configuration(`The kubeconfig ${path} is none: ${issue?.path.join(".")} ${issue?.message}`);
    }
    files.push({ path, content: parsed.data });
  }
  if (files.length === 0) {
    throw configuration(
      `There is no cluster to work with: set host in [runners.kubernetes], run in a pod, or provide a kubeconfig (${paths.join(", ")})`,
    );
  }
  const name = wanted ?? files.find(({ content }) => content["current-context"])?.content["current-context"];
  if (name === undefined) {
    throw configuration(`No context is current in ${paths.join(", ")}: set context in [runners.kubernetes]`);
  }
  const lookUp = <T>(what: string, called: string, list: (content: z.output<typeof fileSchema>) => T | undefined) => {
    for (const { path, content } of files) {
      const found = list(content);
      if (found !== undefined) return { found, dir: dirname(resolve(path)) };
    }
    throw configuration(`The kubeconfig has no ${what} "${called}" (${paths.join(", ")})`);
  };
  const chosen = lookUp("context", name, ({ contexts }) => contexts.find((one) => one.name === name)?.context);
  const { cluster: clusterName, user: userName, namespace } = chosen.found;
  const itsCluster = lookUp(
    "cluster",
    clusterName,
    ({ clusters }) => clusters.find((one) => one.name === clusterName)?.cluster,
  );
  const itsUser =
    userName === undefined || userName === null || userName === ""
      ? { found: user.parse({}), dir: "." }
      : lookUp("user", userName, ({ users }) => users.find((one) => one.name === userName)?.user);
  return {
    name,
    cluster: itsCluster.found,
    user: itsUser.found,
    namespace,
    clusterDir: itsCluster.dir,
    userDir: itsUser.dir,
  };
}
