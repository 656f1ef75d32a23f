/** A part's headers, as far as they matter. */
interface PartHead {
  readonly name: string;
  /** `undefined` for a plain field. */
  readonly filename: string | undefined;
}

export interface MultipartSink {
  begin(head: PartHead): void | Promise<void>;
  write(bytes: Buffer): void | Promise<void>;
  end(): void | Promise<void>;
}

export interface MultipartReader {
  write(chunk: Buffer): Promise<void>;
  /** Did the closing delimiter come? */
  readonly complete: boolean;
}

/** The boundary of a `multipart/form-data` content type, or `undefined` for anything else. */
export function boundaryOf(contentType: string | undefined): string | undefined {
  const match = /^multipart\/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(contentType ?? "");
  return match?.[1] ?? match?.[2];
}

const LONGEST_HEAD_BYTES = 16_384;

/** Cuts a multipart body into its parts while it arrives, wherever the pieces are cut. */
export function createMultipartReader(boundary: string, sink: MultipartSink): MultipartReader {
  const delimiter = Buffer.from(`\r\n--${boundary}`);
  let state: "preamble" | "delimiter" | "head" | "content" | "done" = "preamble";
  // The first delimiter may stand at the very beginning, without the line end in front of it.
  let pending: Buffer = Buffer.from("\r\n");

  const step = async (): Promise<boolean> => {
    if (state === "preamble" || state === "content") {
      const index = pending.indexOf(delimiter);
      const safe = index >= 0 ? index : Math.max(0, pending.length - delimiter.length + 1);
      if (state === "content" && safe > 0) await sink.write(pending.subarray(0, safe));
      pending = pending.subarray(index >= 0 ? index + delimiter.length : safe);
      if (index < 0) return false;
      if (state === "content") await sink.end();
      state = "delimiter";
      return true;
    }
    if (state === "delimiter") {
      if (pending.length < 2) return false;
      if (pending.toString("latin1", 0, 2) === "--") {
        state = "done";
        return false;
      }
      const end = pending.indexOf("\r\n");
      if (end < 0) return false;
      // Kept: with an empty head its end is the blank line itself.
      pending = pending.subarray(end);
      state = "head";
      return true;
    }
    if (state === "head") {
      const end = pending.indexOf("\r\n\r\n");
      if (end < 0) {
        if (pending.length > LONGEST_HEAD_BYTES) throw new SyntaxError("The head of a part is too long");
        return false;
      }
      await sink.begin(parseHead(pending.toString("utf8", 0, end)));
      pending = pending.subarray(end + 4);
      state = "content";
      return true;
    }
    return false;
  };

  return {
    get complete() {
      return state === "done";
    },
    async write(chunk) {
      if (state === "done") return;
      pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
      while (await step());
    },
  };
}

function parseHead(text: string): PartHead {
  const disposition = /^content-disposition:(.*)$/im.exec(text)?.[1] ?? "";
  const parameter = (name: string): string | undefined => {
    const match = new RegExp(`[;\\s]${name}=(?:"((?:[^"\\\\]|\\\\.)*)"|([^;\\s]+))`, "i").exec(disposition);
    return match?.[1]?.replace(/\\(.)/g, "$1") ?? match?.[2];
  };
  return { name: parameter("name") ?? "", filename: parameter("filename") };
}
