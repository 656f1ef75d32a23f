import { helpersFor } from "./powershell-prelude.ts";
import { quote } from "./powershell-words.ts";

/**
 * What statements of ours behind an entry's text would change or not see: what shows who has started it, what would take in
 * the next line, what belongs at a script's head, and what makes a program's failure an exception.
 */
const INTRICATE =
  /MyInvocation|Write-Error|# SIG #|`\s*(?![\s\S])|^\s*using\s|#requires\s|PSNativeCommandUseErrorActionPreference/im;

/** Defines what runs entries that are not plain, and what judges one that did not end well. */
const TAKE_REST = ". ([ScriptBlock]::Create($AlloyState.Rest))";

/**
 * Reads all entries. What PowerShell meets for the first time takes it long, be it a function's call, a member's name or a kind
 * of statement: so entries are read and run with few of them, and the rest comes as a text, which is read where it is needed.
 */
export function writeReading(entries: readonly string[], xtrace: boolean, tmpDir: string): string {
  const any = (pattern: RegExp): boolean => entries.some((text) => pattern.test(text));
  const demanding = any(/^\s*#requires\s/im);
  const rest = helpersFor([
    ...["AlloyRead", "AlloyEntry", "AlloyGuard", "AlloyWeigh"],
    ...(any(/Write-Error/i) ? ["Write-Error"] : []),
    ...(demanding ? ["AlloyRequire"] : []),
  ]);
  const native = any(/PSNativeCommandUseErrorActionPreference/i);
  const plain = !xtrace && !any(INTRICATE);
  return [
    `$AlloyTexts = @(\n${entries.map(quote).join(",\n")}\n)`,
    "$AlloyUnits = $null",
    "$AlloyPassed = $false",
    ...(plain
      ? [
          "try {",
          "$AlloyUnits = @(",
          ...entries.map(
            (_, index) =>
              `[Management.Automation.Language.Parser]::ParseInput($AlloyTexts[${index}] + '\n; $AlloyPassed = $?', 'entry ${index + 1}', [ref] $null, [ref] $null).GetScriptBlock()`,
          ),
          ")",
          "$AlloyPassed = $true",
          "} catch { }",
        ]
      : []),
    "$ExecutionContext.SessionState.PSVariable.Set([PSVariable]::new('AlloyState', @{",
    `Units = $AlloyUnits; Taken = @{}; Unit = $null; Done = -1; Passed = $null; Ended = $false; Error = $null`,
    `Traced = $${xtrace}; Native = $${native}; Rest = ${quote(rest)}`,
    "}, 'Constant'))",
    "if (-not $AlloyPassed) {",
    TAKE_REST,
    "AlloyRead $AlloyTexts",
    ...(demanding ? [`AlloyRequire ${quote(tmpDir)}`] : []),
    "$AlloyPassed = $true",
    "}",
  ].join("\n");
}

/** Runs one entry, where those before it ended well; `later`: an exception may stand for a program's failure by then. */
export function writeEntry(index: number, later: boolean, text: string): string {
  return [
    "if ($AlloyPassed) {",
    "$global:LASTEXITCODE = 0",
    "$AlloyPassed = $null",
    "$AlloyEnded = $false",
    ...(later
      ? [
          "if ($ExecutionContext.SessionState.PSVariable.GetValue('PSNativeCommandUseErrorActionPreference')) {",
          `${TAKE_REST}; AlloyGuard ${index}`,
          "}",
        ]
      : []),
    ...(/\btry\b/i.test(text) ? ["$AlloyState.Error = if ($global:Error.Count -gt 0) { $global:Error[0] }"] : []),
    "do {",
    `. ($AlloyState.Units[${index}])`,
    "$AlloyEnded = $true",
    "} while ($false)",
    `if (-not $AlloyPassed) { ${TAKE_REST}; $AlloyPassed = AlloyWeigh ${index} }`,
    "}",
  ].join("\n");
}
