/** The runner's own log. The implementation is `createLog` below; everybody else is handed a `Log`. */

export type LogLevel = "debug" | "info" | "warn" | "error" | "fatal";
export type LogFormat = "text" | "json";

/** Never hand it a token, a password, or a URL with user info: `fields` are printed as they are. */
export interface Log {
  debug(message: string, fields?: Readonly<Record<string, unknown>>): void;
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** A log that adds `fields` to every line. */
  child(fields: Readonly<Record<string, unknown>>): Log;
}
