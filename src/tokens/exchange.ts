import type { RunnerConfig } from "../config/config.ts";
import { digest } from "../config/identity.ts";
import type { CoordinatorDeps } from "../coordinator/calls.ts";
import { type ResetAnswer, type ResetRight, resetToken } from "../coordinator/registration.ts";
import { describeError } from "../errors.ts";
import { never } from "../time.ts";
import type { Exchanges } from "./exchanges.ts";
import type { ExchangeNotes, KeptNote } from "./notes.ts";
import { type ConfigPlace, saveToken } from "./save.ts";

export interface ExchangeDeps extends ConfigPlace {
  readonly notes: ExchangeNotes;
  readonly exchanges: Exchanges;
  readonly coordinator: CoordinatorDeps;
}

export type ExchangeResult =
  | {
      readonly kind: "exchanged";
      readonly expiresAtMs: number | null;
      readonly obtainedAtMs: number;
      readonly token: string;
      /** Why the file still has the old one; `null`: it has the new one. */
      readonly unsaved: string | null;
    }
  | Exclude<ResetAnswer, { readonly kind: "exchanged" }>;

/**
 * Exchange a token for a new one and put that into the file. What was begun goes to its end, whoever is in a hurry: from the
 * coordinator's answer on there is nothing but the new token. Never rejects.
 */
export async function exchangeToken(
  runner: RunnerConfig,
  right: ResetRight,
  deps: ExchangeDeps,
): Promise<ExchangeResult> {
  const trouble = (message: string): ExchangeResult => ({
    kind: "trouble",
    message,
    status: 0,
    retryAfterMs: undefined,
  });
  const pen = await deps.notes.prepare().catch((error: unknown) => describeError(error));
  if (typeof pen === "string") {
    return trouble(`The new token could not be kept while it is exchanged, so it was not asked for: ${pen}`);
  }
  const answer = await resetToken(runner, right, deps.coordinator, never).catch((error: unknown) =>
    describeError(error),
  );
  if (typeof answer === "string" || answer.kind !== "exchanged") {
    await pen.drop();
    return typeof answer === "string" ? trouble(answer) : answer;
  }
  const fresh = { token: answer.token, obtainedAtMs: Date.now(), expiresAtMs: answer.expiresAtMs };
  const replacement = { url: runner.url.href, oldDigest: digest(runner.token), ...fresh };
  // Without its note it is in the file a moment later, or in this process alone.
  const kept = await pen.keep(replacement).catch((error: unknown) => describeError(error));
  deps.exchanges.add(replacement.url, replacement.oldDigest, fresh);
  const unsaved = await saveToken(deps, replacement, never).then(
    (count) => (count === 0 ? `${deps.file} has no entry with the token of before any more` : null),
    describeError,
  );
  if (unsaved === null && typeof kept !== "string") await kept.remove();
  return { kind: "exchanged", ...fresh, unsaved: unsaved === null ? null : `${unsaved}. ${placeOf(kept)}` };
}

function placeOf(kept: KeptNote | string): string {
  return typeof kept === "string"
    ? `It could not be kept elsewhere either (${kept}): reset the token in the coordinator's web pages and put it into the file`
    : `It is kept in ${kept.path}, and used and put into the file at the next start`;
}

/**
 * Put tokens into the file that the last process got and did not live to put there.
 * @returns whether there were any: then the file is to be loaded again
 */
export async function finishExchanges(
  { notes, exchanges, ...place }: Omit<ExchangeDeps, "coordinator">,
  say: { finished(name: string): void; unsaved(path: string, problem: string): void; broken(path: string): void },
): Promise<boolean> {
  const left = await notes.all(say.broken);
  for (const { note, path, remove } of left) {
    exchanges.add(note.url, note.oldDigest, note);
    try {
      await saveToken(place, note, never);
      await remove();
      say.finished(path);
    } catch (error) {
      say.unsaved(path, describeError(error));
    }
  }
  return left.length > 0;
}
