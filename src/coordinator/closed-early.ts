/**
 * A new TLS connection ended without a word, in its handshake or before an answer to its first request. That is how servers
 * that want a client's certificate get rid of those without one: since TLS 1.3 they look at it after the client's last step.
 */
export class ClosedEarly extends Error {
  constructor(cause: unknown) {
    super("the connection was closed before an answer", { cause });
  }
}

/** The other side ended the connection. */
export function isCutOff(error: unknown): boolean {
  return (
    error instanceof Error &&
    "code" in error &&
    (error.code === "ECONNRESET" || error.code === "EPIPE" || error.code === "UND_ERR_SOCKET")
  );
}
