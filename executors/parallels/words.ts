import type { ExecutorWords } from "../../src/executor/words.ts";
import { loginQuestions, words as ssh } from "../ssh/words.ts";

export const words: ExecutorWords = {
  name: "parallels",
  title: "Parallels",
  builtOn: [ssh.name],
  worksOnThisMachine: false,
  flags: [
    {
      flag: "parallels-base-name",
      env: "PARALLELS_BASE_NAME",
      key: "parallels.base_name",
      kind: "text",
      help: "virtual machine that each job gets a copy of",
    },
    {
      flag: "parallels-template-name",
      env: "PARALLELS_TEMPLATE_NAME",
      key: "parallels.template_name",
      kind: "text",
      help: "linked template that is made of it; BASE-template by default",
    },
    {
      flag: "parallels-disable-snapshots",
      env: "PARALLELS_DISABLE_SNAPSHOTS",
      key: "parallels.disable_snapshots",
      kind: "boolean",
      help: "make a new copy for each job instead of taking one back to its snapshot",
    },
    {
      flag: "parallels-time-server",
      env: "PARALLELS_TIME_SERVER",
      key: "parallels.time_server",
      kind: "text",
      help: "time server that sets the clock of a copy; this host's clock by default",
    },
    {
      flag: "parallels-allowed-image",
      env: "PARALLELS_ALLOWED_IMAGES",
      key: "parallels.allowed_images",
      kind: "list",
      help: "regular expression for virtual machines that jobs may name as their image",
    },
    {
      flag: "parallels-boot-timeout",
      env: "PARALLELS_BOOT_TIMEOUT",
      key: "parallels.boot_timeout",
      kind: "integer",
      help: "seconds until a copy's sshd must answer; 300 by default",
    },
  ],
  questions: [{ flag: "parallels-base-name", message: "Parallels machine to copy", required: true }, ...loginQuestions],
  foreignKeys: {
    parallels: `base_name template_name disable_snapshots time_server allowed_images`,
  },
};
