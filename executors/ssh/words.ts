import type { EntryQuestion, ExecutorWords } from "../../src/executor/words.ts";
import { sshFlags } from "./flags.ts";

/** Who logs in, and with what: asked of every executor that works over SSH. */
export const loginQuestions: readonly EntryQuestion[] = [
  { flag: "ssh-user", message: "SSH user", required: true },
  { flag: "ssh-password", message: "SSH password (empty: none)", secret: true },
  { flag: "ssh-identity-file", message: "Private key file (empty: none)" },
];

export const words: ExecutorWords = {
  name: "ssh",
  title: "SSH",
  builtOn: [],
  worksOnThisMachine: false,
  flags: sshFlags,
  questions: [
    { flag: "ssh-host", message: "SSH host", required: true },
    { flag: "ssh-port", message: "SSH port (empty: 22)" },
    ...loginQuestions,
  ],
  foreignKeys: {
    ssh: `user password host port identity_file disable_strict_host_key_checking known_hosts_file`,
  },
};
