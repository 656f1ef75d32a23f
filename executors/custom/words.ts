import type { EntryFlag, ExecutorWords } from "../../src/executor/words.ts";

/** A program's own three flags; the one that runs scripts has no time limit but the job's. */
function programFlags(name: string, what: string, timed: boolean): EntryFlag[] {
  const limit: EntryFlag = {
    flag: `custom-${name}-exec-timeout`,
    env: `CUSTOM_${name.toUpperCase()}_EXEC_TIMEOUT`,
    key: `custom.${name}_exec_timeout`,
    kind: "integer",
    help: "its time limit in seconds; 3600 by default",
  };
  return [
    {
      flag: `custom-${name}-exec`,
      env: `CUSTOM_${name.toUpperCase()}_EXEC`,
      key: `custom.${name}_exec`,
      kind: "text",
      help: what,
    },
    { flag: `custom-${name}-args`, key: `custom.${name}_args`, kind: "list", help: "one of its arguments" },
    ...(timed ? [limit] : []),
  ];
}

const flags: readonly EntryFlag[] = [
  ...programFlags("config", "program that prints a job's settings as JSON", true),
  ...programFlags("prepare", "program that makes what a job runs in", true),
  ...programFlags("run", "program that runs one script of a job", false),
  ...programFlags("cleanup", "program that removes what a job ran in", true),
  {
    flag: "custom-graceful-kill-timeout",
    env: "CUSTOM_GRACEFUL_KILL_TIMEOUT",
    key: "custom.graceful_kill_timeout",
    kind: "integer",
    help: "seconds between SIGTERM and SIGKILL; 600 by default",
  },
  {
    flag: "custom-force-kill-timeout",
    env: "CUSTOM_FORCE_KILL_TIMEOUT",
    key: "custom.force_kill_timeout",
    kind: "integer",
    help: "seconds from SIGKILL until a program is given up; 10 by default",
  },
];

export const words: ExecutorWords = {
  name: "custom",
  title: "Custom",
  builtOn: [],
  worksOnThisMachine: false,
  flags,
  questions: [{ flag: "custom-run-exec", message: "Program that runs a job's scripts", required: true }],
  foreignKeys: {
    custom: `config_exec config_args config_exec_timeout prepare_exec prepare_args prepare_exec_timeout run_exec run_args
      cleanup_exec cleanup_args cleanup_exec_timeout graceful_kill_timeout force_kill_timeout`,
  },
};
