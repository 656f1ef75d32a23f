import { z } from "zod";
import { natural, optionalText, parsed, table, text, texts } from "../../images/fields.ts";
import { isImageId, parseReference } from "../../images/reference.ts";
import { ENTRYPOINT_VARIABLES, type EntrypointVariables } from "../../images/service-variables.ts";
import {
  type GpuRequest,
  parseBytes,
  parseCpus,
  parseDevice,
  parseGpus,
  parseUlimit,
  parseVolume,
  type Ulimit,
} from "./values.ts";

export { policies, service, servicesEnvironmentExclude } from "../../images/fields.ts";
export { natural, optionalText, table, text, texts };

/** How to reach the daemon. */
export interface ConnectionSettings {
  /** `unix:///…`, `npipe:////./pipe/…`, `tcp://host:2376`, `http(s)://…`, `ssh://user@host:22`; empty: `DOCKER_HOST` and its kin. */
  readonly host: string;
  /** Folder with `ca.pem`, `cert.pem`, `key.pem`; empty: none. */
  readonly tlsCertPath: string;
  /** Use TLS and check the daemon's certificate. */
  readonly tlsVerify: boolean;
  /** The machine that `host`, a socket of this one, leads to: `instance i-07`. */
  readonly via?: string;
}

/** Shares of the machine that the containers of one kind get. `undefined`: the engine's default. */
export interface ResourceLimits {
  readonly nanoCpus: number | undefined;
  readonly cpuShares: number | undefined;
  readonly cpusetCpus: string | undefined;
  readonly cpusetMems: string | undefined;
  readonly memoryBytes: number | undefined;
  /** Memory and swap together; −1: as much swap as there is. */
  readonly memorySwapBytes: number | undefined;
  readonly memoryReservationBytes: number | undefined;
  readonly cgroupParent: string | undefined;
}

const textOrNumber = z.union([z.string(), z.number()]);
/** Empty text and zero are what registration has always written for "not set". */
const unset = (value: string | number): boolean => value === "" || value === 0 || value === "0";

export const size = parsed(
  textOrNumber,
  (value) => (unset(value) ? 0 : parseBytes(value)),
  'a size such as "512m", "2g" or a number of bytes',
)
  .optional()
  .transform((bytes) => (bytes === 0 ? undefined : bytes));
export const swap = parsed(
  textOrNumber,
  (value) => (String(value).trim() === "-1" ? -1 : unset(value) ? 0 : parseBytes(value)),
  'a size such as "1g" or a number of bytes, or "-1" for no limit',
)
  .optional()
  .transform((bytes) => (bytes === 0 ? undefined : bytes));
export const cpus = parsed(
  textOrNumber,
  (value) => (unset(value) ? 0 : parseCpus(String(value))),
  'a number of processors such as "0.5", "2" or "1/3"',
)
  .optional()
  .transform((nano) => (nano === 0 ? undefined : nano));
export const shares = natural.optional().transform((value) => (value === 0 ? undefined : value));
export const device = parsed(z.string(), parseDevice, 'a device such as "/dev/kvm" or "/dev/host:/dev/container:rwm"');
export const gpus = parsed(
  z.string(),
  (value) => (value.trim() === "" ? ("none" as const) : parseGpus(value)),
  'GPUs as "all", "2" or "device=0,1"',
)
  .optional()
  .transform((request): GpuRequest | undefined => (request === "none" ? undefined : request));
export const volume = parsed(
  z.string(),
  parseVolume,
  'a volume such as "/host/dir:/container/dir", "name:/container/dir:ro" or "/container/dir"',
);
/** What has a variable in it is only known when a job is there. */
export const helperImage = parsed(
  optionalText,
  (value) =>
    value === undefined || value.includes("$") || isImageId(value) || parseReference(value) !== null ? { value } : null,
  'the name of an image such as "registry.example.com/ci/git:1" or "registry.example.com/ci/git@sha256:…" with 64 digits',
).transform(({ value }) => value);
export const entrypointVariables = parsed(
  z.string().default("public"),
  (value): EntrypointVariables | null => ENTRYPOINT_VARIABLES.find((one) => one === value) ?? null,
  ENTRYPOINT_VARIABLES.map((one) => `"${one}"`).join(", "),
);
export const ulimits = z
  .record(z.string(), textOrNumber)
  .default({})
  .transform((given, context): readonly Ulimit[] =>
    Object.entries(given).flatMap(([name, value]) => {
      const limit = parseUlimit(name, value);
      if (limit !== null) return [limit];
      context.addIssue({
        code: "custom",
        path: [name],
        message: 'expected a limit such as "1024" or "1024:2048"',
      });
      return [];
    }),
  );

/** Options of the json-file driver, which is what service logs are read from. */
const LOG_OPTIONS = "env env-regex labels labels-regex tag max-size max-file compress".split(" ");
export const logOptions = table.transform((given, context) => {
  for (const name of Object.keys(given)) {
    if (LOG_OPTIONS.includes(name)) continue;
    context.addIssue({
      code: "custom",
      path: [name],
      message: `is no option of the json-file log driver. Use one of ${LOG_OPTIONS.join(", ")}`,
    });
  }
  return given;
});

/** Seconds. The Go runner's and GitLab Runner's 0 is 30, and only a negative number switches the waiting off. */
export const waitSeconds = z
  .number()
  .int()
  .default(30)
  .transform((seconds) => (seconds < 0 ? null : (seconds === 0 ? 30 : seconds) * 1000));
