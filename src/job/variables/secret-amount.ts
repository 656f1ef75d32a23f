/** The most bytes of all values that a trace must hide, as received and as expanded. */
export const MOST_SECRET_BYTES = 16 * 1024 * 1024;
/** Each line of a secret is hidden by itself, too. */
export const MOST_SECRET_LINES = 20_000;

/** What is to be hidden, counted while it is found. */
export interface SecretAmount {
  /**
   * Each text counts once.
   * @param whose what has it, for a person
   * @returns why it cannot be hidden with the others; `null`: it can
   */
  add(text: string, whose: string): string | null;
  /** All that were added and can be hidden. */
  readonly values: ReadonlySet<string>;
}

/** @param known what counts for nothing */
export function createSecretAmount(known: readonly string[] = []): SecretAmount {
  const values = new Set(known);
  let [bytes, lines] = [0, 0];
  return {
    values,
    add(text, whose) {
      if (text === "" || values.has(text)) return null;
      bytes += Buffer.byteLength(text);
      for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) lines++;
      if (bytes > MOST_SECRET_BYTES) return tooMuch(whose, `${MOST_SECRET_BYTES} bytes`);
      if (lines > MOST_SECRET_LINES) return tooMuch(whose, `${MOST_SECRET_LINES} lines`);
      values.add(text);
      return null;
    },
  };
}

function tooMuch(whose: string, what: string): string {
  return `The secrets of this job are too much to be hidden in its trace: with ${whose} they have more than ${what} together. Let the job fetch what is large itself.`;
}
