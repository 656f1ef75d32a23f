import { XMLParser } from "fast-xml-parser";
import type { z } from "zod";
import { awsDomain } from "../../../../src/cloud/aws/domain.ts";
import type { AwsLogin } from "../../../../src/cloud/aws/login.ts";
import { signed } from "../../../../src/cloud/aws/signed.ts";
import { describeError, SystemFailure } from "../../../../src/errors.ts";
import { failureSchema } from "./answers.ts";
import { AwsRefusal } from "./refusal.ts";

/** Calls to AWS, signed. */
export interface AwsApi {
  /** An action of a service that is asked by a form and answers in XML. */
  query<T>(call: Query<T>, signal: AbortSignal): Promise<T>;
  /** One that is asked and answers in JSON. */
  json(
    call: { readonly service: string; readonly target: string; readonly body: object },
    signal: AbortSignal,
  ): Promise<void>;
}

export interface Query<T> {
  readonly service: "autoscaling" | "ec2";
  readonly action: string;
  readonly parameters: Readonly<Record<string, string>>;
  readonly answer: z.ZodType<T>;
}

const VERSIONS = { autoscaling: "2011-01-01", ec2: "2016-11-15" } as const;

const xml = new XMLParser({
  ignoreAttributes: true,
  parseTagValue: false,
  isArray: (name) => name === "member" || name === "item",
});

/** @param environment `AWS_ENDPOINT_URL` counts, as with AWS's own tools */
export async function openApi(
  login: Omit<AwsLogin, "advice">,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<AwsApi> {
  const { openLogin } = await import("../../../../src/cloud/aws/login.ts");
  const { keys, region: findRegion } = openLogin({ ...login, advice: "profile and credentials_file in plugin_config" });
  const region = await findRegion();
  const addressOf = (service: string): URL =>
    new URL(environment.AWS_ENDPOINT_URL || `https://${service}.${region}.${awsDomain(region)}/`);

  const send = async (
    {
      service,
      action,
      headers,
      body,
    }: Readonly<Record<"service" | "action" | "body", string>> & { headers: Record<string, string> },
    signal: AbortSignal,
  ): Promise<string> => {
    const question = { what: action, method: "POST", url: addressOf(service), headers, body } as const;
    const made = await signed(question, { keys: await keys(signal), service, region });
    let response: Response;
    let text: string;
    try {
      response = await fetch(made.url, { method: "POST", headers: { ...made.headers }, body, signal });
      text = await response.text();
    } catch (cause) {
      signal.throwIfAborted();
      const { host } = made.url;
      throw new SystemFailure(`Cannot ask AWS for ${action} at ${host}: ${describeError(cause)}`, {
        cause,
        retry: true,
      });
    }
    if (response.ok) return text;
    throw refusal(action, response.status, text);
  };

  return {
    async query({ service, action, parameters, answer }, signal) {
      const body = new URLSearchParams({ Action: action, Version: VERSIONS[service], ...parameters }).toString();
      const headers = { "content-type": "application/x-www-form-urlencoded; charset=utf-8" };
      const text = await send({ service, action, headers, body }, signal);
      const parsed = answer.safeParse(parseXml(text));
      if (parsed.success) return parsed.data;
      const [issue] = parsed.error.issues;
      throw new SystemFailure(
        `AWS answers ${action} with something else than asked for: ${issue?.path.join(".")}: ${issue?.message}`,
        { retry: true },
      );
    },
    async json({ service, target, body }, signal) {
      const headers = { "content-type": "application/x-amz-json-1.1", "x-amz-target": target };
      const action = target.replace(/^.*\./, "");
      await send({ service, action, headers, body: JSON.stringify(body) }, signal);
    },
  };
}

function parseXml(text: string): unknown {
  try {
    return xml.parse(text);
  } catch {
    return undefined;
  }
}

function refusal(action: string, status: number, text: string): AwsRefusal {
  const said = failureSchema.safeParse(text.startsWith("{") ? JSON.parse(text) : parseXml(text));
  const { code, message } = said.success ? said.data : { code: `status ${status}`, message: "" };
  return new AwsRefusal(action, code, message.slice(0, 500));
}
