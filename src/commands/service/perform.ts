import { execFile } from "node:child_process";
import { chmod, mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { CommandError, describeError } from "../../errors.ts";
import { pause } from "../../time.ts";
import type { Ran, RunTool, ServiceManager, ServiceName } from "./service.ts";
import { definedByFile } from "./service.ts";
import { describeRun, MARKER, type Step } from "./step.ts";

export interface Doing {
  readonly service: ServiceName;
  readonly manager: ServiceManager;
  readonly run: RunTool;
  /** A line for a person. */
  say(text: string): void;
}

/**
 * Does one step. Each is safe to repeat.
 * @throws {CommandError} it did not work, or would touch what somebody else wrote
 */
export async function perform(step: Step, { service, manager, run, say }: Doing, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  switch (step.do) {
    case "write": {
      const before = await ownText(step.file);
      if (before === step.text) return;
      await onDisk(`write ${step.file}`, async () => {
        await mkdir(dirname(step.file), { recursive: true });
        const fresh = `${step.file}.new-${process.pid}`;
        try {
          await writeFile(fresh, step.text, { mode: step.mode });
          await chmod(fresh, step.mode);
          await rename(fresh, step.file);
        } finally {
          await rm(fresh, { force: true });
        }
      });
      say(`${before === null ? "wrote" : "replaced"} ${step.file}`);
      return;
    }
    case "create":
      await onDisk(`create ${step.file}`, async () => {
        await mkdir(dirname(step.file), { recursive: true, mode: 0o700 });
        await writeFile(step.file, step.text, { mode: step.mode, flag: "wx" }).then(
          () => say(`created ${step.file}`),
          (error) => {
            if (codeOf(error) !== "EEXIST") throw error;
          },
        );
      });
      return;
    case "directory":
      await onDisk(`make ${step.path}`, async () => {
        if ((await mkdir(step.path, { recursive: true, mode: step.mode })) !== undefined) say(`made ${step.path}`);
      });
      return;
    case "remove":
      if ((await ownText(step.file)) === null) return;
      await onDisk(`remove ${step.file}`, () => rm(step.file, { force: true }));
      say(`removed ${step.file}`);
      return;
    case "run": {
      if (step.needlessWhen !== undefined) {
        const { running, stopping = false } = await manager.state(service, run, signal);
        if (step.needlessWhen === "running" ? running && !stopping : !running || stopping) return;
      }
      const call = step.input === undefined ? step.argv : { argv: step.argv, input: step.input };
      const { status, stdout, stderr } = await run(call, signal);
      if (status === 0 || step.optional) return;
      const what = (stderr.trim() || stdout.trim()).replace(/\s*\n\s*/g, "; ");
      throw new CommandError(
        `"${describeRun(step.argv)}" ended with ${status}${what === "" ? "" : `: ${what}`}${hint(what)}`,
      );
    }
    case "await-stopped":
      while ((await manager.state(service, run, signal)).running) await pause(500, signal);
  }
}

/** Advice for a service manager that refuses. */
function hint(message: string): string {
  if (/Access is denied|Interactive authentication required|Operation not permitted/i.test(message)) {
    return process.platform === "win32" ? ". Run it as administrator" : ". Run it as root (sudo)";
  }
  if (/Failed to connect to (?:user )?(?:scope )?bus|No medium found/i.test(message)) {
    return ". The user's service manager is not running: log in as that user (su does not do), or: loginctl enable-linger";
  }
  return "";
}

/** Text of a file that this program wrote, `null` where there is none. @throws {CommandError} somebody else wrote it */
async function ownText(file: string): Promise<string | null> {
  const defined = await definedByFile(file);
  if (defined === null) return null;
  refuseForeign(defined);
  return defined.text;
}

/** @throws {CommandError} the definition is not one of ours */
export function refuseForeign({ place, text }: { readonly place: string; readonly text: string }): void {
  if (text.includes(MARKER)) return;
  throw new CommandError(
    `${place} was not written by this program and is left alone. Remove that service in the way it was installed, or choose another name with --service`,
  );
}

async function onDisk(what: string, body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    const why = ["EACCES", "EPERM", "EROFS"].includes(codeOf(error) ?? "") ? ". Run it as root (sudo)" : "";
    throw new CommandError(`Cannot ${what}: ${describeError(error)}${why}`, { cause: error });
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** Runs service managers' tools. Their output is not limited, nor is their time. */
export function toolRunner(env: Readonly<Record<string, string | undefined>>): RunTool {
  return (call, signal) =>
    new Promise<Ran>((resolve, reject) => {
      const [program, ...args] = "argv" in call ? call.argv : call;
      const options = { env: { ...env, LC_ALL: "C" }, signal, windowsHide: true, maxBuffer: 16 * 1024 * 1024 };
      const { stdin } = execFile(program, args, options, (error, stdout, stderr) => {
        if (error === null) return resolve({ status: 0, stdout, stderr });
        if (signal.aborted) return reject(signal.reason);
        if (typeof error.code === "number") return resolve({ status: error.code, stdout, stderr });
        if (typeof error.signal === "string")
          return resolve({ status: 128, stdout, stderr: `ended by ${error.signal}` });
        reject(new CommandError(`Cannot start ${program}: ${describeError(error)}`, { cause: error }));
      });
      // If a program does not read its input to the end, its status says what is wrong.
      stdin?.on("error", () => {});
      stdin?.end("argv" in call ? call.input : "");
    });
}
