/** Files and processes of a job where the only tool is a POSIX shell: what the executors for containers and far hosts share. */
export type { Ended, NamedProcess } from "../common/processes/say-ended.ts";
export { argvOf } from "./argv.ts";
export type { RemoteCommand, RemoteCommands, RemoteExit, RemoteProcess, ScriptCommands } from "./commands.ts";
export { durableCommands } from "./durable/durable.ts";
export { remoteFiles } from "./files/files.ts";
export { keepingByChanges } from "./files/keep-by-changes.ts";
export { keepingByContents } from "./files/keep-by-contents.ts";
export type { RemotePlace } from "./place.ts";
export { type EndTreeOptions, endTree, jobMark, type ScriptRoot } from "./processes/end-tree.ts";
export { type RemoteScriptHost, runRemoteScript } from "./processes/script.ts";
export { lastLine, quoted, type RemoteResult, runToEnd } from "./run-to-end.ts";
export { openRemoteTerminal, type RemotePty, type RemoteTerminalHost } from "./terminal.ts";
export { missingToLast, probeTools, type RemoteTools, storedTools, storeTools } from "./tools.ts";
