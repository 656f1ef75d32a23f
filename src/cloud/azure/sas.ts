import { createHmac } from "node:crypto";

export const AZURE_VERSION = "2021-12-02";
/** Clocks differ. */
const EARLIER_MS = 3_600_000;

export interface BlobAccess {
  readonly account: string;
  /** Base64. */
  readonly accountKey: string;
  readonly container: string;
  /** Not encoded. */
  readonly blob: string;
  /** Read or write. */
  readonly permission: "r" | "w";
  readonly lifeMs: number;
  readonly now?: Date;
}

/** A shared access signature for one blob, as parameters of its address. */
export function blobSignature(access: BlobAccess): Readonly<Record<string, string>> {
  const { account, accountKey, container, blob, permission, lifeMs, now = new Date() } = access;
  const time = (ms: number): string => new Date(now.getTime() + ms).toISOString().replace(/\.\d+/, "");
  const [start, end] = [time(-EARLIER_MS), time(lifeMs)];
  const lines = [
    permission,
    start,
    end,
    `/blob/${account}/${container}/${blob}`,
    "", // identifier
    "", // address
    "https",
    AZURE_VERSION,
    "b",
    "", // snapshot
    "", // encryption scope
    ...["", "", "", "", ""], // headers of the answer
  ];
  const sig = createHmac("sha256", Buffer.from(accountKey, "base64")).update(lines.join("\n")).digest("base64");
  return { sv: AZURE_VERSION, spr: "https", st: start, se: end, sr: "b", sp: permission, sig };
}
