import type { Readable } from "node:stream";

/** An answer. A 204 or an empty one has no body. */
export interface Reply {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array | Readable;
  /** What is still read of a body that was refused half-way, before the connection is closed. Default: all. */
  readonly lingerBytes?: number;
  /** No answer: the connection is closed. */
  readonly hangUp?: boolean;
}
