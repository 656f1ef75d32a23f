/** Why an expression has no value; the text quotes nothing of the values. */
export class ExpressionError extends Error {
  override readonly name = "ExpressionError";
}
