import { createHash, createSign } from "node:crypto";

/** Longest life of a signed address that Google grants. */
const LONGEST_SECONDS = 7 * 24 * 3600;

export interface GoogleKey {
  readonly email: string;
  /** PEM. */
  readonly privateKey: string;
}

export interface UrlRequest {
  readonly method: string;
  /** With its path, encoded as it goes over the wire. */
  readonly url: URL;
  readonly query: Readonly<Record<string, string>>;
  /** Lower case; they have to be sent as they are. */
  readonly headers: Readonly<Record<string, string>>;
  readonly lifeMs: number;
  readonly now?: Date;
}

/** An address with a signature of Google's version 4. @throws what is wrong with the key */
export function signGoogleUrl({ email, privateKey }: GoogleKey, request: UrlRequest): URL {
  const { method, url, query, headers, lifeMs, now = new Date() } = request;
  const time = now.toISOString().replace(/[-:]|\.\d+/g, "");
  const scope = `${time.slice(0, 8)}/auto/storage/goog4_request`;
  const signed = Object.entries({ ...headers, host: url.host }).sort(([a], [b]) => (a < b ? -1 : 1));
  const names = signed.map(([name]) => name).join(";");
  const parameters = {
    ...query,
    "X-Goog-Algorithm": "GOOG4-RSA-SHA256",
    "X-Goog-Credential": `${email}/${scope}`,
    "X-Goog-Date": time,
    "X-Goog-Expires": String(Math.min(Math.max(Math.ceil(lifeMs / 1000), 1), LONGEST_SECONDS)),
    "X-Goog-SignedHeaders": names,
  };
  const search = Object.entries(parameters)
    .map(([name, value]) => `${encoded(name)}=${encoded(value)}`)
    .sort()
    .join("&");
  const canonical = [
    method,
    url.pathname,
    search,
    ...signed.map(([name, value]) => `${name}:${value.trim().replace(/\s+/g, " ")}`),
    "",
    names,
    "UNSIGNED-PAYLOAD",
  ].join("\n");
  const hash = createHash("sha256").update(canonical).digest("hex");
  const text = ["GOOG4-RSA-SHA256", time, scope, hash].join("\n");
  const signature = createSign("RSA-SHA256").update(text).sign(privateKey, "hex");
  return new URL(`${url.origin}${url.pathname}?${search}&X-Goog-Signature=${signature}`);
}

function encoded(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
