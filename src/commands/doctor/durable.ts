import { readFile } from "node:fs/promises";
import { constants } from "node:os";
import type { Config } from "../../config/config.ts";
import { createControlClient } from "../../control/client.ts";
import { type StatusAnswer, statusSchema } from "../../control/protocol.ts";
import { findKey, keyPlaces } from "../../journal/live/key.ts";
import type { CommandContext } from "../context.ts";
import { DEFAULT_NAME } from "../service/options.ts";
import { toolRunner } from "../service/perform.ts";
import type { Finding, Note } from "./finding.ts";

const CHECK = "durable jobs";
const KEY_REMEDY =
  "Set live_key_file, give the unit a credential alloy-runner.key, or set durable = false (docs/operating.md)";

interface Unit {
  readonly name: string;
  readonly scope: "system" | "user";
}

/** Whose jobs outlive the runner, or why they do not, and whether the unit that it runs in lets them. */
export async function checkDurable(config: Config, context: CommandContext): Promise<Note[]> {
  const { runners, stateDir, file } = config;
  const durable = runners.filter((entry) => entry.durable);
  if (durable.length === 0 || process.platform !== "linux") return [];
  const { uid } = context;
  const client = createControlClient({ stateDir, named: file, uid });
  const status = await client.get("status", statusSchema).catch(() => null);
  const pid = status?.pid ?? null;
  const usual: Unit = { name: `${DEFAULT_NAME}.service`, scope: uid === 0 ? "system" : "user" };
  const unit = pid === null ? usual : await unitOf(pid);
  const entries = durable.map(({ name }) => name).join(", ");
  const problem = await keyProblem(status?.durable, config, context);
  if (problem !== null) {
    const cause = `they end with the runner: there is no key to keep their secrets with (${problem})`;
    if (!durable.some(({ durableAsked }) => durableAsked))
      return [{ severity: "ok", check: CHECK, of: entries, cause }];
    return [{ severity: "warning", check: CHECK, of: entries, cause, remedy: KEY_REMEDY }];
  }
  const about: Note = {
    severity: "ok",
    check: CHECK,
    of: entries,
    cause: `they go on through a restart of the runner${status === null ? "" : runningNow(status)}`,
  };
  return [about, ...(unit === null ? [] : await checkUnit(unit, context))];
}

/** `; of 5 jobs in progress 4 are durable, 2 of them adopted` */
function runningNow({ jobs }: Pick<StatusAnswer, "jobs">): string {
  const durable = jobs.filter((job) => job.durable === true || job.adopted !== undefined);
  const adopted = durable.filter((job) => job.adopted !== undefined);
  if (jobs.length === 0) return "";
  const count = `${jobs.length} ${jobs.length === 1 ? "job" : "jobs"} in progress`;
  return `; of ${count} ${durable.length} ${durable.length === 1 ? "is" : "are"} durable, ${adopted.length} adopted`;
}

/** Why the secrets of jobs cannot be kept: as the runner that runs has found, which may have more places, or as it would find. */
async function keyProblem(
  found: boolean | undefined,
  { liveKeyFile }: Config,
  { env }: CommandContext,
): Promise<string | null> {
  if (found === true) return null;
  const key = await findKey(keyPlaces(env, liveKeyFile), { make: false });
  if ("problem" in key) return key.problem;
  return found === false ? "its log says why" : null;
}

/** The unit of systemd that a process runs in; `null`: somebody has started it otherwise. */
async function unitOf(pid: number): Promise<Unit | null> {
  const groups = await readFile(`/proc/${pid}/cgroup`, "utf8").catch(() => "");
  const [, path = ""] = /^(?:0::|\d+:name=systemd:)(.*)$/m.exec(groups) ?? [];
  const names = path.split("/").filter((name) => name.endsWith(".service"));
  const ofUser = names.some((name) => name.startsWith("user@"));
  const name = names.findLast((one) => !one.startsWith("user@"));
  return name === undefined ? null : { name, scope: ofUser ? "user" : "system" };
}

async function checkUnit({ name, scope }: Unit, { env, signal }: CommandContext): Promise<Note[]> {
  const systemctl = scope === "user" ? (["systemctl", "--user"] as const) : (["systemctl"] as const);
  const properties = "--property=LoadState,KillMode,RestartKillSignal,NeedDaemonReload";
  const asked = await toolRunner(env)([...systemctl, "show", properties, name], signal).catch(() => null);
  const shown = new Map(asked?.stdout.split("\n").map((line) => [line.split("=")[0], line.split("=")[1]]));
  if (shown.get("LoadState") !== "loaded") return [];
  const warn = (cause: string, remedy: string): Finding => ({
    severity: "warning",
    check: CHECK,
    of: name,
    cause,
    remedy,
  });
  if (shown.get("NeedDaemonReload") === "yes") {
    return [warn("its file was changed, and systemd goes by the old one", `Run: ${systemctl.join(" ")} daemon-reload`)];
  }
  const remedy =
    'Run "alloy-runner install" again with the flags of then, or upgrade the package; a drop-in that sets it has to go ("systemctl edit")';
  const notes: Note[] = [];
  const mode = shown.get("KillMode");
  if (mode !== "process") notes.push(warn(`a restart ends them: KillMode=${mode} instead of process`, remedy));
  const restarts = shown.get("RestartKillSignal");
  if (restarts === undefined) {
    notes.push(
      warn(
        "this systemd does not tell a restart from a stop, so that its restart waits for them",
        'Use "alloy-runner restart"',
      ),
    );
  } else if (restarts !== String(constants.signals.SIGUSR2)) {
    notes.push(warn("a restart waits for them: RestartKillSignal is not SIGUSR2", remedy));
  }
  return notes.length > 0
    ? notes
    : [{ severity: "ok", check: CHECK, of: name, cause: "a restart hands them over, a stop ends them" }];
}
