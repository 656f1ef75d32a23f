/** Options of gitlab-ci-local, whose users find their command lines and files understood. */

export interface PeerOption {
  /** Without dashes. */
  readonly name: string;
  readonly kind: "switch" | "text" | "list";
  /**
   * What it is called here, as an attribute of the parsed command line; `null`: what it asks for happens anyway, or there
   * is nothing of the kind to ask for.
   */
  readonly here: string | null;
  /** Only for jobs in containers. */
  readonly docker?: true;
  /** A file of the project may ask for it: it reaches nothing of the person's. */
  readonly ofProject?: true;
}

const own = (name: string, kind: PeerOption["kind"], here: string | null): PeerOption => ({
  name,
  kind,
  here,
  ofProject: true,
});
const person = (name: string, kind: PeerOption["kind"], here: string | null): PeerOption => ({ name, kind, here });
const docker = (name: string, kind: PeerOption["kind"], here: string | null): PeerOption => ({
  name,
  kind,
  here,
  docker: true,
});

export const PEER_OPTIONS: readonly PeerOption[] = [
  own("manual", "list", "manual"),
  own("stage", "list", "stage"),
  own("input", "list", "input"),
  own("fetch-includes", "switch", "fetchIncludes"),
  own("list", "switch", "list"),
  own("list-all", "switch", "listAll"),
  own("list-json", "switch", "listJson"),
  own("list-csv", "switch", "listCsv"),
  own("list-csv-all", "switch", "listCsvAll"),
  own("preview", "switch", "print"),
  own("validate-dependency-chain", "switch", "list"),
  own("needs", "switch", "withNeeds"),
  own("only-needs", "switch", "onlyNeeds"),
  own("variable", "list", "var"),
  own("unset-variable", "list", "unsetVariable"),
  person("variables-file", "text", "variablesFile"),
  person("inputs-file", "text", "inputsFile"),
  own("quiet", "switch", "quiet"),
  own("evaluate-rule-changes", "switch", "evaluateRuleChanges"),
  own("concurrency", "text", "jobs"),
  person("file", "text", "file"),
  person("cwd", "text", "cwd"),
  person("home", "text", "home"),
  { ...docker("default-image", "text", "dockerImage"), ofProject: true },
  { ...docker("pull-policy", "list", "dockerPullPolicy"), ofProject: true },
  docker("privileged", "switch", "dockerPrivileged"),
  docker("volume", "list", "dockerVolumes"),
  docker("network", "text", "dockerNetworkMode"),
  docker("extra-host", "list", "dockerExtraHosts"),
  docker("device", "list", "dockerDevices"),
  docker("gpus", "text", "dockerGpus"),
  docker("userns", "text", "dockerUserns"),
  docker("helper-image", "text", "dockerHelperImage"),
  docker("wait-for-services-timeout", "text", "dockerWaitForServicesTimeout"),
  own("state-dir", "text", null),
  own("force-shell-executor", "switch", null),
  own("shell-executor-no-image", "switch", null),
  own("shell-isolation", "switch", null),
  own("mount-cache", "switch", null),
  own("umask", "switch", null),
  own("cleanup", "switch", null),
  own("wait-image", "text", null),
  own("max-job-name-padding", "text", null),
  own("maximum-includes", "text", null),
  own("json-schema-validation", "switch", null),
  own("ignore-schema-paths", "list", null),
  own("ignore-predefined-vars", "text", null),
  own("color", "switch", null),
  own("artifacts-to-source", "switch", null),
];

/** `list-all` → `listAll`. */
export function attributeOfPeer(name: string): string {
  return name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
