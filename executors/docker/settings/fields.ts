import { z } from "zod";
import { PULL_POLICIES, type PullPolicy, type ServiceSetting } from "../../images/policy.ts";
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

/** How to reach the daemon. */
export interface ConnectionSettings {
  /** `unix:///…`, `npipe:////./pipe/…`, `tcp://host:2376`, `http(s)://…`, `ssh://user@host:22`; empty: `DOCKER_HOST` and its kin. */
  readonly host: string;
  /** Folder with `ca.pem`, `cert.pem`, `key.pem`; empty: none. */
  readonly tlsCertPath: string;
  /** Use TLS and check the daemon's certificate. */
  readonly tlsVerify: boolean;
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

export const text = z.string().default("");
export const optionalText = z
  .string()
  .optional()
  .transform((value) => (value === undefined || value.trim() === "" ? undefined : value.trim()));
export const texts = z.array(z.string().min(1, "is empty. Remove it, or write a value")).default([]);
export const table = z.record(z.string(), z.string()).default({});
export const natural = z.number().int().min(0);

/** A text or number that `parse` understands, or a problem that says what was expected. */
export function parsed<Input, Value>(input: z.ZodType<Input>, parse: (value: Input) => Value | null, expected: string) {
  return input.transform((value, context): Value => {
    const result = parse(value);
    if (result !== null) return result;
    context.addIssue({ code: "custom", message: `expected ${expected}` });
    return z.NEVER;
  });
}

const textOrNumber = z.union([z.string(), z.number()]);
/** Empty text and zero are what registration has always written for "not set". */
export const unset = (value: string | number): boolean => value === "" || value === 0 || value === "0";

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
const isPolicy = (value: string): value is PullPolicy => PULL_POLICIES.some((policy) => policy === value);

/** One policy, or several that are tried in turn. */
export const policies = z
  .union([z.string(), z.array(z.string())])
  .default([])
  .transform((value, context): readonly PullPolicy[] => {
    const given = typeof value === "string" ? (value === "" ? [] : [value]) : value;
    for (const [index, each] of given.entries()) {
      if (isPolicy(each)) continue;
      context.addIssue({
        code: "custom",
        ...(typeof value === "string" ? {} : { path: [index] }),
        message: `expected ${PULL_POLICIES.map((name) => `"${name}"`).join(", ")}`,
        params: { names: PULL_POLICIES },
      });
    }
    return [...new Set(given.filter(isPolicy))];
  });

export const variable = parsed(
  z.string(),
  (value) => {
    const split = value.indexOf("=");
    return split < 1 ? null : { key: value.slice(0, split), value: value.slice(split + 1) };
  },
  'a variable such as "NAME=value"',
);
export const service = z
  .union([
    z
      .string()
      .min(1)
      .transform((name) => ({ name })),
    z.object({
      name: z.string().min(1),
      alias: z.string().optional(),
      entrypoint: z.array(z.string()).optional(),
      command: z.array(z.string()).optional(),
      environment: z.array(variable).optional(),
    }),
  ])
  .transform(
    (given): ServiceSetting => ({
      name: given.name,
      aliases: "alias" in given ? (given.alias ?? "").split(/[\s,]+/).filter((alias) => alias !== "") : [],
      entrypoint: ("entrypoint" in given ? given.entrypoint : undefined) ?? null,
      command: ("command" in given ? given.command : undefined) ?? null,
      variables: ("environment" in given ? given.environment : undefined) ?? [],
    }),
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
