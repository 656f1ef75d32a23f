/** `ENOENT` of a failed call; the whole error as text where it has no code. */
export function errorCode(error: unknown): string {
  return typeof error === "object" && error !== null && "code" in error ? String(error.code) : String(error);
}
