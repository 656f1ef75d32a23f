import { z } from "zod";
import { type Ask, jsonOf, type Question, refused } from "./ask.ts";

/** A token that stands for a login, and how long it does. */
export interface BearerToken {
  readonly accessToken: string;
  readonly lifeMs: number;
}

const answerSchema = z.object({ access_token: z.string().min(1), expires_in: z.coerce.number().default(3600) });

/**
 * Asks for a token as OAuth 2.0 has it.
 * @param saidIn what an answer says went wrong
 * @throws {SystemFailure} it was refused, or the answer has no token
 */
export async function askForBearer(
  ask: Ask,
  question: Question,
  saidIn: (answer: unknown) => string,
  signal: AbortSignal,
): Promise<BearerToken> {
  const reply = await ask(question, signal);
  const answer = answerSchema.safeParse(jsonOf(reply));
  if (reply.status === 200 && answer.success) {
    return { accessToken: answer.data.access_token, lifeMs: answer.data.expires_in * 1000 };
  }
  throw refused(question, reply.status, reply.status === 200 ? "the answer has no token" : saidIn(jsonOf(reply)));
}
