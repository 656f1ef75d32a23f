import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { Socket } from "node:net";

/**
 * How both ends of a connection show that they know the same secret, before anything else is said. Each answers the other's
 * random number with a MAC over both numbers, so neither end learns the secret, and nothing that was overheard can be used again.
 */
export interface Pass {
  /** Where they meet: a proof for one place is none for another. */
  readonly place: string;
  readonly secret: Buffer;
}

const HELLO = /^hello ([0-9a-f]{64})$/;
const RUNNER = /^runner ([0-9a-f]{64}) ([0-9a-f]{64})$/;
const OPERATOR = /^operator ([0-9a-f]{64})$/;
const WELCOME = "welcome";
const LONGEST_LINE = 200;

/** The runner's end. Stays silent until the other has spoken, and resolves with whether that one knows the secret. */
export async function demandProof(socket: Socket, pass: Pass): Promise<boolean> {
  const [, theirs] = HELLO.exec(await nextLine(socket)) ?? [];
  if (theirs === undefined) return false;
  const ours = randomBytes(32).toString("hex");
  socket.write(`runner ${ours} ${proofOf("runner", pass, theirs, ours)}\n`);
  const [, proof] = OPERATOR.exec(await nextLine(socket)) ?? [];
  if (proof === undefined || !isSame(proof, proofOf("operator", pass, theirs, ours))) return false;
  socket.write(`${WELCOME}\n`);
  return true;
}

/** The operator's end. `stranger`: what answers does not know the secret, so it was told nothing. */
export async function giveProof(socket: Socket, pass: Pass): Promise<"welcome" | "stranger" | "refused"> {
  const ours = randomBytes(32).toString("hex");
  socket.write(`hello ${ours}\n`);
  const [, theirs = "", proof] = RUNNER.exec(await nextLine(socket)) ?? [];
  if (proof === undefined || !isSame(proof, proofOf("runner", pass, ours, theirs))) return "stranger";
  socket.write(`operator ${proofOf("operator", pass, ours, theirs)}\n`);
  return (await nextLine(socket)) === WELCOME ? "welcome" : "refused";
}

function proofOf(who: "runner" | "operator", { place, secret }: Pass, operators: string, runners: string): string {
  const said = ["alloy-runner control 1", who, place, operators, runners].join("\n");
  return createHmac("sha256", secret).update(said).digest("hex");
}

function isSame(one: string, other: string): boolean {
  return timingSafeEqual(Buffer.from(one, "hex"), Buffer.from(other, "hex"));
}

/** The line that comes next; empty where the connection ends before, or what comes is no line of this conversation. */
function nextLine(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const settle = (line: string): void => {
      socket.off("data", onData).off("close", onClose).off("end", onClose).off("error", onClose);
      resolve(line);
    };
    const onClose = (): void => settle("");
    const onData = (chunk: Buffer): void => {
      text += chunk.toString("latin1");
      const end = text.indexOf("\n");
      // Each end waits for the other, so nothing follows a line.
      if (end >= 0) settle(end === text.length - 1 ? text.slice(0, end) : "");
      else if (text.length > LONGEST_LINE) settle("");
    };
    if (socket.destroyed) settle("");
    else socket.on("data", onData).on("close", onClose).on("end", onClose).on("error", onClose);
  });
}
