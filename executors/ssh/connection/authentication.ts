import { createPrivateKey } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import type { AnyAuthMethod, AuthenticationType, ParsedKey } from "ssh2";
import { SystemFailure } from "../../../src/errors.ts";
import { type LoginWords, SSH_WORDS, type SshHost } from "../settings.ts";
import { MOST_ROUNDS, openChachaKey } from "./openssh-key.ts";

/** `utils.parseKey` of ssh2, which is loaded by whoever connects. */
type ParseKey = (data: Buffer, passphrase?: string) => ParsedKey | ParsedKey[] | Error;

export interface Authentication {
  /** ssh2's `authHandler`: asked for the next method until one is taken or none is left. */
  next(left: readonly string[] | null, partial: boolean | null): AnyAuthMethod | false;
  /** Why nothing was accepted, for the operator. */
  failure(): string;
}

interface Method {
  readonly type: AuthenticationType;
  readonly shown: string;
  readonly use: AnyAuthMethod;
}

/** Larger than any key; a device or a log file is refused before it fills the memory. */
const LARGEST_KEY_BYTES = 1024 * 1024;

/**
 * The configured ways to log in, in the order of ssh: key file, agent, keyboard-interactive and password (both with the
 * password). The server is asked first which it allows, so a method that it does not know is not tried. Several in a row are
 * possible (`AuthenticationMethods publickey,password`).
 * @throws {SystemFailure} a key file that cannot be read or opened, an agent without a socket
 */
export async function openAuthentication(target: SshHost, parseKey: ParseKey): Promise<Authentication> {
  const { user: username, credentials, words = SSH_WORDS } = target;
  const { identityFile, passphrase, agentSocket, password } = credentials;
  const methods: Method[] = [];
  if (credentials.key !== undefined) {
    const key = openKey(
      { content: Buffer.from(credentials.key), passphrase: undefined, name: "that it was given" },
      words,
      parseKey,
    );
    methods.push({ type: "publickey", shown: `the key (${key.type})`, use: { type: "publickey", username, key } });
  }
  if (identityFile !== undefined) {
    const key = await readKey(identityFile, passphrase, words, parseKey);
    const shown = `the key ${identityFile} (${key.type})`;
    methods.push({ type: "publickey", shown, use: { type: "publickey", username, key } });
  }
  if (agentSocket !== undefined) {
    if (agentSocket === "") {
      throw new SystemFailure(
        "agent = true in [runners.ssh], but the runner was started without SSH_AUTH_SOCK. Set agent to the path of the agent's socket",
        { reason: "runner_configuration_error" },
      );
    }
    const shown = `the agent at ${agentSocket}`;
    methods.push({ type: "agent", shown, use: { type: "agent", username, agent: agentSocket } });
  }
  if (password !== undefined) {
    let asked = 0;
    methods.push({
      type: "keyboard-interactive",
      shown: "keyboard-interactive with the password",
      use: {
        type: "keyboard-interactive",
        username,
        prompt: (_name, _instructions, _language, prompts, finish) => {
          // Some servers ask again and again; the third time it is not the password that is missing.
          asked++;
          finish(prompts.map((prompt) => (prompt.echo === true || asked > 2 ? "" : password)));
        },
      },
    });
    methods.push({ type: "password", shown: "the password", use: { type: "password", username, password } });
  }

  const tried: Method[] = [];
  let allowed: readonly string[] | null = null;
  let accepted = 0;
  return {
    next: (left, partial) => {
      if (left === null) return { type: "none", username };
      allowed = left;
      if (partial === true) accepted++;
      const method = methods.find((one) => !tried.includes(one) && left.includes(protocolName(one.type)));
      if (method === undefined) return false;
      tried.push(method);
      return method.use;
    },
    failure: () => {
      const offer = allowed === null ? "" : ` The host offers: ${allowed.join(", ").slice(0, 200) || "nothing"}.`;
      const refused = tried.map((one) => one.shown).join(", ");
      if (refused === "") {
        return `none of the configured ways (${methods.map((one) => one.shown).join(", ")}) is allowed there.${offer}`;
      }
      const more = accepted > 0 ? " More than one proof is wanted." : "";
      return `refused: ${refused}.${more}${offer}`;
    },
  };
}

function protocolName(type: AuthenticationType): string {
  return type === "agent" ? "publickey" : type;
}

/** PKCS#8, which `ssh-keygen -m PKCS8` writes, in the older form that ssh2 reads; anything else as it is. */
function unwrapped(content: Buffer, passphrase: string | undefined): Buffer {
  if (!/^-----BEGIN (?:ENCRYPTED )?PRIVATE KEY-----/.test(content.toString("latin1", 0, 60))) return content;
  try {
    const key = createPrivateKey({ key: content, ...(passphrase === undefined ? {} : { passphrase }) });
    if (key.asymmetricKeyType === "rsa") return Buffer.from(key.export({ type: "pkcs1", format: "pem" }));
    if (key.asymmetricKeyType === "ec") return Buffer.from(key.export({ type: "sec1", format: "pem" }));
    return content;
  } catch {
    return content;
  }
}

function refusal(name: string, { key }: LoginWords, why: string, cause?: unknown): SystemFailure {
  return new SystemFailure(`Cannot use the key ${name} (${key}): ${why}`, {
    cause,
    reason: "runner_configuration_error",
  });
}

async function readKey(
  file: string,
  passphrase: string | undefined,
  words: LoginWords,
  parseKey: ParseKey,
): Promise<ParsedKey> {
  let content: Buffer;
  try {
    const { size } = await stat(file);
    if (size > LARGEST_KEY_BYTES) throw refusal(file, words, "it is too large for a key");
    content = await readFile(file);
  } catch (error) {
    throw error instanceof SystemFailure ? error : refusal(file, words, "it cannot be read", error);
  }
  return openKey({ content, passphrase, name: file }, words, parseKey);
}

interface ClosedKey {
  readonly content: Buffer;
  readonly passphrase: string | undefined;
  /** Its file. */
  readonly name: string;
}

/** @throws {SystemFailure} it is none that can be used */
function openKey({ content, passphrase, name }: ClosedKey, words: LoginWords, parseKey: ParseKey): ParsedKey {
  const refused = (why: string): SystemFailure => refusal(name, words, why);
  const opened = openChachaKey(content, passphrase);
  if ("refused" in opened) {
    throw refused(
      {
        locked: `it is encrypted. ${words.locked}`,
        "wrong passphrase": "identity_passphrase does not open it",
        malformed: "it is no private key in a format of OpenSSH or PEM (it ends early, or has fields of another kind)",
        "too many rounds": `its passphrase is hashed in more than ${MOST_ROUNDS} rounds. Encrypt it anew: ssh-keygen -p -a 24 -f ${name}`,
      }[opened.refused],
    );
  }
  const parsed = parseKey(unwrapped(opened.content, passphrase), passphrase);
  if (parsed instanceof Error) {
    const trouble = keyTrouble(parsed);
    if (trouble === "encrypted") throw refused(`it is encrypted. ${words.locked}`);
    if (content.includes("BEGIN ENCRYPTED PRIVATE KEY")) {
      throw refused(
        passphrase === undefined ? `it is encrypted. ${words.locked}` : "identity_passphrase does not open it",
      );
    }
    if (passphrase !== undefined && (opened.encrypted || trouble === "unopened")) {
      throw refused("identity_passphrase does not open it");
    }
    if (content.toString("latin1", 0, 20).startsWith("PuTTY-User-Key-File")) {
      throw refused(`it is a key of PuTTY. Convert it: puttygen ${name} -O private-openssh -o ${name}.openssh`);
    }
    throw refused(`it is no private key in a format of OpenSSH or PEM (${parsed.message})`);
  }
  const key = Array.isArray(parsed) ? parsed[0] : parsed;
  if (key?.isPrivateKey() !== true) throw refused("it is a public key. Name the private one, without .pub");
  return key;
}

/** ssh2 says it in words only; they are read here and nowhere else. */
function keyTrouble({ message }: Error): "encrypted" | "unopened" | "other" {
  if (/no passphrase/i.test(message)) return "encrypted";
  return /decrypt|passphrase|integrity|bad/i.test(message) ? "unopened" : "other";
}
