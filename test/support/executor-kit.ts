import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { Writable } from "node:stream";
import { expect } from "vitest";
import { findShellWriter } from "../../shells/index.ts";
import type { Environment, Exit, Script } from "../../src/executor/environment.ts";
import type { Note, Notes, PrepareRequest } from "../../src/executor/prepare.ts";
import type { Op, Tone } from "../../src/shell.ts";
import { never } from "../../src/time.ts";
import { runnerLine } from "../../src/trace/lines.ts";
import { ownTrust, sampleJob } from "./job.ts";

/** Jobs to prepare, scripts to run, and their results, for tests of executors. */

/** Keeps everything that is written to it; serves as the notes of a preparation, too. */
export class Sink extends Writable implements Notes {
  readonly #chunks: Buffer[] = [];
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#chunks.push(chunk);
    this.emit("grown");
    done();
  }
  get stream(): Writable {
    return this;
  }
  print(text: string, tone: Tone = "plain"): void {
    // Prints the text without colours.
    this.write(
      runnerLine(text, tone)
        .toString()
        .replace(/\x1b\[[0-9;]*[mK]/g, ""),
    );
  }
  get text(): string {
    return Buffer.concat(this.#chunks).toString();
  }
  /** Resolves as soon as `text` matches; the test's own time limit bounds it. */
  async until(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.text);
      if (match !== null) return match;
      await once(this, "grown");
    }
  }
}

/** A request to prepare a job, which collects the notes for its journal. */
export function sampleRequest(
  projectPath = "group/project",
  projectId = "7",
  trust = ownTrust,
): PrepareRequest & { notes: Note[] } {
  const notes: Note[] = [];
  return {
    job: sampleJob({ dialect: "gitlab", timeoutMs: 60_000, projectId }),
    jobKey: `test-${randomUUID()}`,
    runnerId: "0a1b2c3d",
    concurrentId: 0,
    projectPath,
    trust,
    expand: (text) => text,
    environment: [],
    variables: [],
    variablesAt: () => [],
    expandSettled: (text) => text,
    openVariables: () => ({ open: [], withSecrets: () => [], expandWith: (_, text) => text }),
    remember: async (note) => void notes.push(note),
    notes,
  };
}

export interface Ran extends Exit {
  readonly text: string;
}

/** Runs instructions as one script. The proof is checked and removed from the text. */
export async function runOps(
  environment: Environment,
  ops: readonly Op[],
  {
    output = new Sink(),
    signal = never,
    login = false,
    runIn = "build",
  }: { output?: Sink; signal?: AbortSignal; login?: boolean; runIn?: Script["runIn"] } = {},
): Promise<Ran> {
  // The helper runs only the runner's own scripts, which are never written in PowerShell.
  const shell = runIn === "helper" && environment.shell === "pwsh" ? "sh" : environment.shell;
  const exit = await environment.run(
    { ...scriptOf({ workspace: environment.workspace, shell }, ops, login), runIn },
    output,
    signal,
  );
  const text = output.text;
  expect(text).toContain("the-proof\n");
  return { ...exit, text: text.slice(text.indexOf("the-proof\n") + "the-proof\n".length) };
}

export function scriptOf(
  environment: Pick<Environment, "shell" | "workspace">,
  ops: readonly Op[],
  login = false,
): Parameters<Environment["run"]>[0] {
  const writer = findShellWriter(environment.shell);
  if (writer === undefined) throw new Error(`no writer for ${environment.shell}`);
  const suited = environment.shell === "pwsh" ? inPwsh(ops) : ops;
  const text = writer.write(suited, { tmpDir: environment.workspace.tmpDir, xtrace: false, proof: "the-proof" });
  return { text, command: writer.command({ login }), stage: "build_script", runIn: "build", login };
}

const inPowerShell = new WeakSet<Op>();

/** Script entries of an author who writes PowerShell. */
export function pwshSource(...texts: readonly string[]): Op[] {
  const ops = source(...texts);
  for (const op of ops) inPowerShell.add(op);
  return ops;
}

/** Turns text for a POSIX shell into a program that PowerShell starts; entries that follow one another become one. */
function inPwsh(ops: readonly Op[]): Op[] {
  const suited: Op[] = [];
  const texts: string[] = [];
  const close = (): void => {
    const text = texts.splice(0).join("\n");
    if (text === "") return;
    // The script ends with the program's status, so that the failed program is named as the entry that failed.
    const leave = "if ($LASTEXITCODE) { exit $LASTEXITCODE }";
    suited.push({ op: "source", text: `sh -e -c '${text.replaceAll("'", "''")}'\n${leave}` });
  };
  for (const op of ops) {
    if (op.op === "source" && !inPowerShell.has(op)) texts.push(op.text);
    else {
      close();
      suited.push(op);
    }
  }
  close();
  return suited;
}

export function source(...texts: readonly string[]): Op[] {
  return texts.map((text) => ({ op: "source", text }));
}

/** A zombie answers to kill -0, so its state is asked for. */
export async function isAlive(environment: Environment, pid: string): Promise<boolean> {
  return (await runOps(environment, source(`case $(ps -o stat= -p ${pid}) in ''|Z*) exit 1;; esac`))).code === 0;
}
