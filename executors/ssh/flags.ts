import type { EntryFlag } from "../../src/executor/words.ts";

/** The Go runner's flags for `[runners.ssh]`, and those for host keys. */
export const sshFlags: readonly EntryFlag[] = [
  {
    flag: "ssh-host",
    env: "SSH_HOST",
    key: "ssh.host",
    kind: "text",
    help: "host that jobs run on",
  },
  {
    flag: "ssh-port",
    env: "SSH_PORT",
    key: "ssh.port",
    kind: "text",
    help: "its port",
  },
  {
    flag: "ssh-user",
    env: "SSH_USER",
    key: "ssh.user",
    kind: "text",
    help: "account that jobs run under there",
  },
  {
    flag: "ssh-password",
    env: "SSH_PASSWORD",
    key: "ssh.password",
    kind: "text",
    help: "password to log in with; better given by environment",
  },
  {
    flag: "ssh-identity-file",
    env: "SSH_IDENTITY_FILE",
    key: "ssh.identity_file",
    kind: "text",
    help: "private key to log in with",
  },
  {
    flag: "ssh-identity-passphrase",
    env: "SSH_IDENTITY_PASSPHRASE",
    key: "ssh.identity_passphrase",
    kind: "text",
    help: "what opens that key; better given by environment",
  },
  {
    flag: "ssh-agent",
    env: "SSH_AGENT",
    key: "ssh.agent",
    kind: "text",
    help: "socket of an agent to log in with",
  },
  {
    flag: "ssh-known-hosts-file",
    env: "SSH_KNOWN_HOSTS_FILE",
    key: "ssh.known_hosts_file",
    kind: "text",
    help: "host keys to trust; ~/.ssh/known_hosts by default",
  },
  {
    flag: "ssh-host-key-fingerprint",
    env: "SSH_HOST_KEY_FINGERPRINT",
    key: "ssh.host_key_fingerprint",
    kind: "text",
    help: "the one host key to trust: SHA256:…",
  },
  {
    flag: "ssh-disable-strict-host-key-checking",
    env: "SSH_DISABLE_STRICT_HOST_KEY_CHECKING",
    key: "ssh.disable_strict_host_key_checking",
    kind: "boolean",
    help: "trust any host key",
  },
];
