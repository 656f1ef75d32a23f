import { spawn } from "node:child_process";
import { z } from "zod";
import { Stop } from "../../src/errors.ts";
import { deadline } from "../../src/time.ts";

const LIMIT_MS = 30_000;
const LARGEST_ANSWER_BYTES = 256 * 1024;

const answerSchema = z.object({ Username: z.string(), Secret: z.string() });

/**
 * Ask the operator's `docker-credential-NAME` for the login of a server, by docker's protocol: the server on stdin, JSON on
 * stdout. `null`: it has none.
 * @throws {Error} it cannot be started, failed, or took too long; nothing of what it printed is in the message
 */
export async function askCredentialHelper(
  name: string,
  server: string,
  env: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
): Promise<{ username: string; secret: string } | null> {
  if (!/^[\w.-]+$/.test(name)) throw new Error("its name is not one word");
  const program = `docker-credential-${name}`;
  using limit = deadline(
    signal,
    LIMIT_MS,
    new Stop("timed_out", `${program} did not answer within ${LIMIT_MS / 1000} s`),
  );
  const { code, output } = await run(program, server, env, limit.signal);
  if (code !== 0) {
    if (/credentials not found/i.test(output)) return null;
    throw new Error(`${program} ended with status ${code}`);
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(output);
  } catch {
    throw new Error(`${program} printed no JSON`);
  }
  const answer = answerSchema.safeParse(parsed);
  if (!answer.success) throw new Error(`${program} printed no Username and Secret`);
  return answer.data.Secret === "" ? null : { username: answer.data.Username, secret: answer.data.Secret };
}

async function run(
  program: string,
  input: string,
  env: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
): Promise<{ code: number; output: string }> {
  signal.throwIfAborted();
  return await new Promise((resolve, reject) => {
    const child = spawn(program, ["get"], { env: { ...env }, stdio: ["pipe", "pipe", "ignore"], windowsHide: true });
    const onAbort = (): void => {
      child.kill("SIGKILL");
      reject(signal.reason);
    };
    const settled = (): void => signal.removeEventListener("abort", onAbort);
    signal.addEventListener("abort", onAbort, { once: true });
    const chunks: Buffer[] = [];
    let bytes = 0;
    child.stdout.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > LARGEST_ANSWER_BYTES) child.kill("SIGKILL");
      else chunks.push(chunk);
    });
    child.stdin.on("error", () => {});
    child.stdin.end(`${input}\n`);
    child.on("error", (error) => {
      settled();
      reject(new Error(`cannot start ${program}: ${error.message}`));
    });
    child.on("close", (code) => {
      settled();
      resolve({ code: code ?? 137, output: Buffer.concat(chunks).toString("utf8") });
    });
  });
}
