import type { RemoteCommands } from "../commands.ts";

export interface DurableOptions {
  /** Where programs run. Its connections may break at any moment. */
  readonly commands: RemoteCommands;
  /** Where the files are read: another container that has the directory, or the same place. */
  readonly reading: RemoteCommands;
  /** For files of this job's scripts, and nobody else's. */
  readonly directory: string;
  /** Told once when the connection has been away for a while, and once when it is back. */
  onWeather(news: "lost" | "back"): void;
  /** Why nothing will ever come any more, or `null`: asked where a connection broke. */
  lost(signal: AbortSignal): Promise<Error | null>;
  /** How long nothing may be heard of the place while a script runs, milliseconds. Default: five minutes. */
  readonly awayMs?: number;
  /** What is said after that. Default: that nothing was heard of it, and why. */
  readonly missed?: () => Error;
  /** After so much silence it is looked whether what runs the script still lives. */
  readonly patienceS?: number;
}
