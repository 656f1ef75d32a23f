import { z } from "zod";

const login = z.object({
  auth: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
  registrytoken: z.string().optional(),
});
const logins = z.record(z.string(), z.unknown());

/**
 * The passwords and tokens in the text of a docker configuration (`{"auths": {"host": {"auth": "…"}}}`, or the older table of
 * logins by itself), as written and, out of `auth`, decoded. Text that is none has no secrets.
 */
export function registrySecrets(text: string): string[] {
  const config = logins.safeParse(parsed(text)).data ?? {};
  const auths = logins.safeParse(config.auths).data ?? config;
  return Object.values(auths).flatMap((value) => {
    const { auth, password, identitytoken, registrytoken } = login.safeParse(value).data ?? {};
    return [auth, password, identitytoken, registrytoken, passwordIn(auth)].filter((secret) => secret !== undefined);
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** base64 of `user:password`; docker pads the password with NUL bytes where it was written so. */
function passwordIn(auth: string | undefined): string | undefined {
  const text = Buffer.from(auth ?? "", "base64").toString("utf8");
  const colon = text.indexOf(":");
  return colon < 0 ? undefined : text.slice(colon + 1).replace(/\0+$/, "");
}
