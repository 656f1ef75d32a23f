import { ExpressionError } from "./expression-error.ts";

/** Steps that all expressions of one job may take. */
export const MOST_STEPS = 1_000_000;
/** Characters that inputs may put into one job. */
export const MOST_TEXT = 16 * 1024 * 1024;
/** Text is handled in bulk: so many characters are one step. */
const CHARACTERS_A_STEP = 64;

/**
 * What all expressions of one job may cost together. They are put in between two turns of the event loop, and their author
 * chooses both them and the values that they go through.
 */
export class Budget {
  private steps = MOST_STEPS;
  private characters = MOST_TEXT;

  /**
   * For each part that is read, and each value that is compared or written.
   * @throws {ExpressionError} there is nothing left
   */
  step(count = 1): void {
    this.steps -= count;
    if (this.steps < 0) throw new ExpressionError(`the expressions of the job take more than ${MOST_STEPS} steps`);
  }

  /** For text that is gone through. @throws {ExpressionError} */
  read(characters: number): void {
    this.step(Math.floor(characters / CHARACTERS_A_STEP));
  }

  /** For text that is made. @throws {ExpressionError} */
  make(text: string): string {
    this.characters -= text.length;
    if (this.characters < 0) throw new ExpressionError("the values put in are too long together");
    return text;
  }
}
