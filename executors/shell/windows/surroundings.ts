import { namePattern } from "../launch/inherited.ts";

/** What Windows' own programs, and those that were installed for all jobs, need of the runner's environment. */
const INHERITED: readonly string[] = [
  ..."ALLUSERSPROFILE APPDATA CommonProgramFiles* ComSpec DriverData HOME HOMEDRIVE HOMEPATH LOCALAPPDATA".split(" "),
  ..."LOGONSERVER NUMBER_OF_PROCESSORS OS Path PATHEXT PROCESSOR_* ProgramData ProgramFiles* ProgramW6432".split(" "),
  ..."PSModulePath PUBLIC SystemDrive SystemRoot TEMP TMP TZ USERDOMAIN USERNAME USERPROFILE windir LANG LC_*".split(
    " ",
  ),
  ..."http_proxy https_proxy ftp_proxy all_proxy no_proxy COMPUTERNAME WINEPREFIX WINEDEBUG".split(" "),
];

type Variables = Readonly<Record<string, string | undefined>>;

/** Where Windows is: `C:\\Windows`. */
export function systemRootOf(own: Variables): string {
  return own.SystemRoot ?? own.windir ?? "C:\\Windows";
}

/**
 * What a script's shell inherits: a short list and `more` names or globs. Names know no case. There is always a path:
 * without one not even Windows' own programs (`chcp`) would be found.
 */
export function inheritOnWindows(own: Variables, more: readonly string[]): Record<string, string> {
  const patterns = [...INHERITED, ...more].map((glob) => namePattern(glob, "is"));
  const found: Record<string, string> = {};
  for (const [name, value] of Object.entries(own)) {
    if (value !== undefined && value !== "" && patterns.some((one) => one.test(name))) found[name] = value;
  }
  if (!Object.keys(found).some((name) => /^path$/i.test(name))) {
    const root = systemRootOf(own);
    found.Path = `${root}\\System32;${root};${root}\\System32\\Wbem;${root}\\System32\\WindowsPowerShell\\v1.0`;
  }
  return found;
}

/** `over` on top of `base`. Two spellings of a name are one variable, and the last value counts. */
export function mergeVariables(...layers: readonly Readonly<Record<string, string>>[]): Record<string, string> {
  const merged = new Map<string, readonly [name: string, value: string]>();
  for (const layer of layers) {
    for (const [name, value] of Object.entries(layer)) merged.set(name.toUpperCase(), [name, value]);
  }
  return Object.fromEntries(merged.values());
}

/** Devices, whatever ending follows: `nul`, `con.txt`, `COM1`. */
const DEVICE = /^(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?$/i;

/** Whether each part of `path` (`/` between them) can be a directory's name on Windows. */
export function fitsWindows(path: string): boolean {
  return path
    .split("/")
    .every((part) => part !== "" && !DEVICE.test(part) && !/[<>:"|?*\\\x00-\x1f]/.test(part) && !/[. ]$/.test(part));
}
