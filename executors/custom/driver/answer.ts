import { z } from "zod";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import type { ShellName } from "../../../src/shell.ts";

const text = z.string().nullish();

/** What `config_exec` may print. Unknown keys belong to other versions and are ignored. */
const answerSchema = z.object({
  driver: z.object({ name: text, version: text }).nullish(),
  builds_dir: text,
  cache_dir: text,
  builds_dir_is_shared: z.boolean().nullish(),
  hostname: text,
  job_env: z.record(z.string(), z.string()).nullish(),
  shell: text,
});

export interface DriverAnswer {
  readonly driver: { readonly name: string; readonly version: string } | null;
  /** Absolute, as scripts see it. */
  readonly buildsDir: string;
  readonly shared: boolean;
  readonly hostname: string;
  readonly jobEnv: Readonly<Record<string, string>>;
  readonly shell: ShellName;
}

/** Values that hold where the driver gives none. */
export interface AnswerDefaults {
  readonly buildsDir: string | undefined;
  readonly shell: ShellName;
  readonly shells: readonly ShellName[];
}

/**
 * @param name `config_exec (/opt/driver/config)`
 * @throws {SystemFailure} it is no answer, or one that cannot be used
 */
export function readAnswer(printed: string, name: string, defaults: AnswerDefaults): DriverAnswer {
  let data: unknown = {};
  try {
    if (printed.trim() !== "") data = JSON.parse(printed);
  } catch (cause) {
    const shown = JSON.stringify(printed.trim().slice(0, 80));
    throw new SystemFailure(`${name} printed ${shown}, which is no JSON: ${describeError(cause)}`, {
      cause,
      retry: true,
    });
  }
  const parsed = answerSchema.safeParse(data);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const where = issue === undefined || issue.path.length === 0 ? "" : ` at ${issue.path.join(".")}`;
    throw new SystemFailure(`${name} printed JSON that is no answer${where}: ${issue?.message ?? ""}`, { retry: true });
  }
  const { driver, builds_dir, cache_dir, builds_dir_is_shared, hostname, job_env, shell } = parsed.data;
  if (cache_dir === "") throw unusable(name, "cache_dir", "is empty. Leave it out, or name a directory");
  return {
    driver: driver?.name ? { name: driver.name, version: driver.version ?? "" } : null,
    buildsDir: buildsDirOf(builds_dir ?? defaults.buildsDir, builds_dir == null ? null : name),
    shared: builds_dir_is_shared ?? false,
    hostname: hostname ?? "",
    jobEnv: withoutNul(job_env ?? {}, name),
    shell: shell ? shellOf(shell, name, defaults.shells) : defaults.shell,
  };
}

function unusable(name: string, key: string, what: string): SystemFailure {
  return new SystemFailure(`${key} of ${name} ${what}`, { reason: "runner_configuration_error" });
}

/** Slashes at the end are dropped; in a guest of Windows the path begins with a drive. */
function buildsDirOf(given: string | undefined, name: string | null): string {
  const whose = name ?? "[[runners]]";
  if (given === undefined) {
    throw new SystemFailure(
      "builds_dir is not set: executor custom needs it in [[runners]] or from config_exec, as jobs see it",
      { reason: "runner_configuration_error" },
    );
  }
  if (!/^(?:\/|[A-Za-z]:[\\/])/.test(given)) {
    throw unusable(
      whose,
      "builds_dir",
      given === "" ? "is empty" : `is ${JSON.stringify(given.slice(0, 100))}, which is not absolute`,
    );
  }
  return given.replaceAll("\\", "/").replace(/(?<=[^/])\/{1,100}$/, "");
}

function shellOf(given: string, name: string, shells: readonly ShellName[]): ShellName {
  const found = shells.find((shell) => shell === given);
  if (found !== undefined) return found;
  throw unusable(
    name,
    "shell",
    `is ${JSON.stringify(given.slice(0, 40))}. Use one of ${shells.map((one) => `"${one}"`).join(", ")}`,
  );
}

function withoutNul(values: Readonly<Record<string, string>>, name: string): Readonly<Record<string, string>> {
  for (const [key, value] of Object.entries(values)) {
    if (key === "" || key.includes("=") || `${key}${value}`.includes("\0"))
      throw unusable(name, "job_env", `has ${JSON.stringify(key.slice(0, 40))}, which no environment can hold`);
  }
  return values;
}
