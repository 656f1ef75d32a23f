import { readFile } from "node:fs/promises";
import { describeError } from "../../errors.ts";
import { never } from "../../time.ts";
import { type Ask, misconfigured } from "../ask.ts";
import type { BearerToken } from "../bearer.ts";
import { keepUntil } from "../expiring.ts";
import { type CloudMeter, metered } from "../meter.ts";
import { askForAzureToken, authorityOf, clientToken } from "./tokens.ts";

export interface AzureLoginOptions {
  readonly ask: Ask;
  /** The same for hosts of this machine's own network, which no proxy reaches. */
  readonly askNearby: Ask;
  readonly meter: CloudMeter;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

const STORAGE = "https://storage.azure.com/";
const MACHINE = "http://169.254.169.254";
const LOOK_MS = 1000;

/** Tokens for storage, as Azure's own tools find them: of a client, of a pod's identity, of the machine's. */
export function openAzureLogin(options: AzureLoginOptions): () => Promise<BearerToken> {
  return keepUntil(() => metered(options.meter.login("azure"), newToken(options)));
}

async function newToken({ ask, askNearby, environment }: AzureLoginOptions): Promise<BearerToken> {
  const {
    AZURE_TENANT_ID: tenant = "",
    AZURE_CLIENT_ID: clientId = "",
    AZURE_CLIENT_SECRET: secret = "",
  } = environment;
  const tokenFile = environment.AZURE_FEDERATED_TOKEN_FILE ?? "";
  if (tenant !== "" && clientId !== "" && (secret !== "" || tokenFile !== "")) {
    const proof = secret !== "" ? { secret } : { assertion: await read(tokenFile) };
    const login = { authority: authorityOf(environment), tenant, clientId, scope: `${STORAGE}.default`, proof };
    return await clientToken(ask, login, never);
  }
  const endpoint = environment.IDENTITY_ENDPOINT ?? "";
  const inApp = URL.canParse(endpoint);
  const url = new URL(inApp ? endpoint : `${MACHINE}/metadata/identity/oauth2/token`);
  url.searchParams.set("api-version", inApp ? "2019-08-01" : "2018-02-01");
  url.searchParams.set("resource", STORAGE);
  if (clientId !== "") url.searchParams.set("client_id", clientId);
  const headers: Record<string, string> = inApp
    ? { "x-identity-header": environment.IDENTITY_HEADER ?? "" }
    : { metadata: "true" };
  const question = { what: "get a token of this machine", method: "GET", url, headers, timeoutMs: LOOK_MS } as const;
  try {
    return await askForAzureToken(askNearby, question, never);
  } catch (cause) {
    throw misconfigured(
      `There is no login for Azure (${describeError(cause)}): set AccountKey in [runners.cache.azure], AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET for the runner's service, or give this machine an identity`,
    );
  }
}

/** Read anew each time: whoever writes it renews it. */
async function read(file: string): Promise<string> {
  try {
    return (await readFile(file, "utf8")).trim();
  } catch (cause) {
    throw misconfigured(`AZURE_FEDERATED_TOKEN_FILE ${file} cannot be read: ${describeError(cause)}`);
  }
}
