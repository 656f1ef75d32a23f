import type { ArtifactShelf, IncomingFile } from "../jobs/artifacts.ts";
import type { BodyLimits } from "./body.ts";
import type { Call } from "./http.ts";
import { boundaryOf, createMultipartReader } from "./multipart.ts";

/** An upload that was received whole, not yet kept. `file` is `undefined` where no part was a file named `file`. */
export interface Upload {
  readonly file: { readonly filename: string; readonly content: IncomingFile } | undefined;
  discard(): Promise<void>;
}

/** Receive a multipart body onto the shelf. What is refused or broken leaves nothing behind. */
export async function receiveUpload(
  call: Call,
  shelf: ArtifactShelf,
  limits: BodyLimits,
): Promise<Upload | "no_multipart" | "malformed" | "too_large" | "gone"> {
  const boundary = boundaryOf(call.header("content-type"));
  if (boundary === undefined) return "no_multipart";
  let file: { filename: string; content: IncomingFile } | undefined;
  let current: IncomingFile | undefined;
  const discard = async (): Promise<void> => await file?.content.discard();
  const reader = createMultipartReader(boundary, {
    async begin({ name, filename }) {
      if (name !== "file" || filename === undefined || file !== undefined) return;
      current = await shelf.create();
      file = { filename, content: current };
    },
    write: (bytes) => current?.write(bytes),
    async end() {
      await current?.close();
      current = undefined;
    },
  });
  try {
    const end = await call.body(limits, (chunk) => reader.write(chunk));
    if (end === "complete" && reader.complete) return { file, discard };
    await discard();
    if (end === "too_large") return "too_large";
    return end === "complete" ? "malformed" : "gone";
  } catch (error) {
    await discard();
    if (error instanceof SyntaxError) return "malformed";
    throw error;
  }
}
