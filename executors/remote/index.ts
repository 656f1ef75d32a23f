/** Files and processes of a job where the only tool is a POSIX shell: what the executors for containers and far hosts share. */
export type { Ended, NamedProcess } from "../common/say-ended.ts";
export type { RemoteCommand, RemoteCommands, RemoteExit, RemoteProcess } from "./commands.ts";
export { type EndTreeOptions, endTree, jobMark, type ScriptRoot } from "./end-tree.ts";
export { type RemotePlace, remoteFiles } from "./files/files.ts";
export { lastLine, quoted, type RemoteResult, runToEnd } from "./run-to-end.ts";
export { type RemoteScriptHost, runRemoteScript } from "./script.ts";
export { probeTools, type RemoteTools } from "./tools.ts";
