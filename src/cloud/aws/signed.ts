import type { Question } from "../ask.ts";
import type { AwsKeys } from "./login.ts";

/** The same request with a signature of AWS (version 4) in its headers. */
export async function signed(
  question: Question,
  { keys, service, region }: { readonly keys: AwsKeys; readonly service: string; readonly region: string },
): Promise<Question> {
  const { AwsV4Signer } = await import("aws4fetch");
  const { method, url, headers = {}, body } = question;
  const { accessKeyId, secretAccessKey, sessionToken } = keys;
  const made = await new AwsV4Signer({
    method,
    url: url.href,
    headers: { ...headers },
    ...(body === undefined ? {} : { body }),
    accessKeyId,
    secretAccessKey,
    ...(sessionToken === undefined ? {} : { sessionToken }),
    service,
    region,
  }).sign();
  return { ...question, url: made.url, headers: Object.fromEntries(made.headers) };
}
