import type { ExecutorWords } from "../../src/executor/words.ts";
import { loginQuestions, words as ssh } from "../ssh/words.ts";

export const words: ExecutorWords = {
  name: "virtualbox",
  title: "VirtualBox",
  builtOn: [ssh.name],
  worksOnThisMachine: false,
  flags: [
    {
      flag: "virtualbox-base-name",
      env: "VIRTUALBOX_BASE_NAME",
      key: "virtualbox.base_name",
      kind: "text",
      help: "virtual machine that each job gets a copy of",
    },
    {
      flag: "virtualbox-base-snapshot",
      env: "VIRTUALBOX_BASE_SNAPSHOT",
      key: "virtualbox.base_snapshot",
      kind: "text",
      help: "its snapshot that copies are made of; the current one by default",
    },
    {
      flag: "virtualbox-base-folder",
      env: "VIRTUALBOX_BASE_FOLDER",
      key: "virtualbox.base_folder",
      kind: "text",
      help: "directory for the files of copies",
    },
    {
      flag: "virtualbox-disable-snapshots",
      env: "VIRTUALBOX_DISABLE_SNAPSHOTS",
      key: "virtualbox.disable_snapshots",
      kind: "boolean",
      help: "make a new copy for each job instead of taking one back to its snapshot",
    },
    {
      flag: "virtualbox-allowed-image",
      env: "VIRTUALBOX_ALLOWED_IMAGES",
      key: "virtualbox.allowed_images",
      kind: "list",
      help: "regular expression for virtual machines that jobs may name as their image",
    },
    {
      flag: "virtualbox-start-type",
      env: "VIRTUALBOX_START_TYPE",
      key: "virtualbox.start_type",
      kind: "text",
      help: "headless (default), gui or separate",
    },
    {
      flag: "virtualbox-boot-timeout",
      env: "VIRTUALBOX_BOOT_TIMEOUT",
      key: "virtualbox.boot_timeout",
      kind: "integer",
      help: "seconds until a copy's sshd must answer; 300 by default",
    },
  ],
  questions: [
    { flag: "virtualbox-base-name", message: "VirtualBox machine to copy", required: true },
    ...loginQuestions,
  ],
  foreignKeys: {
    virtualbox: `base_name base_snapshot base_folder disable_snapshots allowed_images start_type`,
  },
};
