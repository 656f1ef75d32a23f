/** Words and names as PowerShell takes them. */

/** One literal word. PowerShell takes four typographic signs for a single quote, too; nothing else has a meaning in it. */
export function quote(text: string): string {
  return `'${text.replaceAll("\0", "").replace(/['\u2018-\u201b]/g, "$&$&")}'`;
}

/** Strings of .NET hold NUL, too, but only as an escape. */
export function quoteContent(content: string): string {
  return content.includes("\0") ? `(${content.split("\0").map(quote).join(" + [char]0 + ")})` : quote(content);
}

/** Names as a set in which upper and lower case do not count. */
function names(...lines: readonly string[]): ReadonlySet<string> {
  return new Set(lines.join(" ").toLowerCase().split(" "));
}

/** What PowerShell sets itself, or nobody may. Variables of these names are in the environment, but `$NAME` stays PowerShell's. */
const AUTOMATIC = names(
  "args consoleFileName enabledExperimentalFeatures error event eventArgs eventSubscriber executionContext false foreach",
  "home host input isCoreCLR isLinux isMacOS isWindows lastExitCode matches myInvocation nestedPromptLevel null pid",
  "profile psBoundParameters psCmdlet psCommandPath psCulture psDebugContext psEdition psHome psItem psScriptRoot",
  "psSenderInfo psStyle psUICulture psVersionTable pwd sender shellId stackTrace switch this true",
  "psDefaultParameterValues psSessionOption",
);

/** What PowerShell obeys: a variable of this name is one for the author's script, too, in the type that PowerShell wants. */
const OBEYED = names(
  "confirmPreference debugPreference errorActionPreference errorView formatEnumerationLimit informationPreference",
  "logCommandHealthEvent logCommandLifecycleEvent logEngineHealthEvent logEngineLifecycleEvent logProviderHealthEvent",
  "logProviderLifecycleEvent maximumAliasCount maximumDriveCount maximumErrorCount maximumFunctionCount",
  "maximumHistoryCount maximumVariableCount ofs outputEncoding progressPreference psEmailServer",
  "psModuleAutoLoadingPreference psNativeCommandArgumentPassing psNativeCommandUseErrorActionPreference",
  "psSessionApplicationName psSessionConfigurationName transcript verbosePreference warningPreference whatIfPreference",
);

/** Can `$NAME` be ours? */
export function isBare(name: string): boolean {
  return (
    /^[A-Za-z][A-Za-z0-9_]*$/.test(name) &&
    !isObeyed(name) &&
    !AUTOMATIC.has(name.toLowerCase()) &&
    !/^alloy/i.test(name)
  );
}

export function isObeyed(name: string): boolean {
  return OBEYED.has(name.toLowerCase());
}
