/** Files and processes of a job where the only tool is a POSIX shell: what the executors for containers and far hosts share. */
export type { RemoteCommand, RemoteCommands, RemoteExit, RemoteProcess } from "./commands.ts";
export {
  type EndedTree,
  type EndTreeOptions,
  endTree,
  jobMark,
  type Leader,
  type RemoteProcessName,
} from "./end-tree.ts";
export { type RemotePlace, remoteFiles } from "./files.ts";
export { type RemoteScriptHost, runRemoteScript } from "./script.ts";
export { PROGRAMS, type ProgramName, probeTools, type RemoteTools } from "./tools.ts";
