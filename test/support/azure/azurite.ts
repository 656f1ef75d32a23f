import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createAuthority } from "../../coordinator/server.ts";
import { builtBy } from "../built.ts";

/** Azure's storage with the container `caches`. It checks signatures, and of tokens whom they are for. */
export interface TestAzure {
  /** `https://127.0.0.1:port/devstoreaccount1` */
  readonly endpoint: URL;
  readonly account: string;
  readonly accountKey: string;
  /** That it accepts, as nobody checks who has signed it. */
  readonly token: string;
  close(): Promise<void>;
}

const ACCOUNT = "devstoreaccount1";
/** Azurite's own, in its documentation. */
const KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/** @param dir becomes the home of its certificate: `127.0.0.1.crt` is its authority's */
export async function startAzurite(dir: string): Promise<TestAzure> {
  const built = await builtBy(join(import.meta.dirname, "azurite.sh"));
  const leaf = createAuthority(dir, "127.0.0.1").sign("azurite", "IP:127.0.0.1");
  const program = join(built, "azurite/dist/src/blob/main.js");
  const options = "--blobHost 127.0.0.1 --blobPort 0 --oauth basic --inMemoryPersistence --disableTelemetry --silent";
  const server = spawn(process.execPath, [program, ...options.split(" "), "--cert", leaf.cert, "--key", leaf.key], {
    cwd: dir,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = once(server, "exit");
  let said = "";
  const origin = await new Promise<string>((resolve, reject) => {
    for (const stream of [server.stdout, server.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        said = (said + text).slice(-10_000);
        const found = /listens on (https:\S+)/.exec(said)?.[1];
        if (found !== undefined) resolve(found);
      });
    }
    void exited.then(() => reject(new Error(`Azurite does not start: ${said}`)));
  });
  return {
    endpoint: new URL(`${origin}/${ACCOUNT}`),
    account: ACCOUNT,
    accountKey: KEY,
    token: unsignedToken(),
    close: async () => {
      server.kill("SIGKILL");
      await exited;
    },
  };
}

function unsignedToken(): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    aud: "https://storage.azure.com",
    iss: "https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/",
    iat: now - 60,
    nbf: now - 60,
    exp: now + 3600,
  };
  return `${part({ alg: "RS256", typ: "JWT" })}.${part(claims)}.${Buffer.from("signature").toString("base64url")}`;
}
