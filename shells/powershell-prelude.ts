import { entries } from "./powershell-entries.ts";

/** How each script begins. Without a cmdlet: the first of a module's loads the module, which takes half as long as PowerShell's start. */
export const prelude = `
try { [Console]::OutputEncoding = $OutputEncoding } catch { }
try { [Console]::InputEncoding = $OutputEncoding } catch { }
$ProgressPreference = 'SilentlyContinue'
$AlloyDepth = 0
`.trim();

/**
 * What scripts for PowerShell are made of: functions over .NET rather than cmdlets, because cmdlets take `[`, `*` and `?`
 * in paths for patterns, differ between editions, and may be hidden by functions of the author's. Each stops the script if
 * it fails, whatever the author's error preference is. Works from Windows PowerShell 5.1 on; names no value of a job.
 */
const helpers = `
function AlloyStop([int] $Status) {
  if ($AlloyDepth -gt 0) { throw [OperationCanceledException]::new("alloy-status $Status") }
  exit $Status
}
function AlloyTell($Problem) {
  $text = if ($Problem -is [Management.Automation.ErrorRecord]) { $Problem.Exception.Message } else { [string] $Problem }
  if ($text -notmatch '^alloy-status ') { [Console]::Error.Write($text + [char]10) }
}
function AlloyStatusOf($Problem) {
  if ($Problem.Exception.Message -match '^alloy-status (-?\\d+)$') { return [int] $Matches[1] }
  AlloyTell $Problem
  return 1
}
function AlloyFail($Problem) {
  AlloyTell $Problem
  AlloyStop 1
}
function AlloyPath([string] $Path) {
  if ([IO.Path]::IsPathRooted($Path)) { return $Path }
  return [IO.Path]::Combine((Microsoft.PowerShell.Management\\Get-Location -PSProvider FileSystem).ProviderPath, $Path)
}
function AlloyOnWindows { return [IO.Path]::DirectorySeparatorChar -eq [char]92 }
function AlloyPrint([string] $Text) {
  try { [Console]::Write($Text) } catch { }
}
function AlloySet([string] $Name, [string] $Value, [bool] $Bare) {
  try { [Environment]::SetEnvironmentVariable($Name, $Value) } catch { AlloyFail $_ }
  if ($Bare) {
    try { $ExecutionContext.SessionState.PSVariable.Set("global:$Name", $Value) } catch { }
  }
}
function AlloyObey([string] $Name) {
  $text = [Environment]::GetEnvironmentVariable($Name)
  $variables = $ExecutionContext.SessionState.PSVariable
  $old = $variables.GetValue("global:$Name")
  try {
    $value = if ($text -match '^\\$?(true|false)$') { $Matches[1] -eq 'true' } else { $text }
    if ($old -is [bool]) { $value = [bool]::Parse(($value -replace '^1$', 'true' -replace '^0$', 'false')) }
    elseif ($old -is [int]) { $value = [int]::Parse($value) }
    elseif ($old -is [Text.Encoding]) { $value = [Text.Encoding]::GetEncoding($value) }
    elseif ($null -ne $old -and $old -isnot [string] -and $old -isnot [Enum]) { throw 'an object' }
    # Only the variable of the whole session checks its value; what modules do is none of the script's business.
    $variables.Set("global:$Name", $value)
    $value = $variables.GetValue("global:$Name")
    if ($null -eq $old) { $variables.Remove("global:$Name") } else { $variables.Set("global:$Name", $old) }
    Microsoft.PowerShell.Utility\\Set-Variable -Name $Name -Value $value -Scope 1 -WhatIf:$false -Confirm:$false -ErrorAction Stop
  } catch {
    AlloyPrint ([char] 27 + '[0;33mPowerShell does not take the value of the variable ' + $Name + ' for its own $' + $Name + ', and goes on without it' + [char] 27 + '[0;m' + [char] 10)
  }
}
function AlloyLoad([string] $Name, [string] $Path) {
  AlloySet $Name $Path $true
  if (-not (AlloyIsThere $Path)) { AlloyWrite $Path '' }
  if (-not (AlloyIsFile $Path)) { return }
  try { $lines = [IO.File]::ReadAllLines((AlloyPath $Path)) } catch { return }
  foreach ($line in $lines) {
    if ($line -cnotmatch '^([A-Za-z_][A-Za-z0-9_]*)=') { continue }
    $word = $Matches[1]
    # What PowerShell sets or obeys stays its own: there the variable is in the environment only.
    $bare = $word -notmatch '^(_.*|alloy.*|ps.*|ofs|.*Preference|.*EventLog.*|errorView|transcript|maximum.*|log.*Event)$'
    AlloySet $word $line.Substring($word.Length + 1) $bare
  }
}
function AlloyUnset([string] $Name) {
  try { [Environment]::SetEnvironmentVariable($Name, [NullString]::Value) } catch { AlloyFail $_ }
}
function AlloyAttributes([string] $Path) {
  try { return [IO.File]::GetAttributes((AlloyPath $Path)) } catch { return $null }
}
function AlloyIsThere([string] $Path) { return $null -ne (AlloyAttributes $Path) }
function AlloyIsDirectory([string] $Path) { return [IO.Directory]::Exists((AlloyPath $Path)) }
function AlloyIsFile([string] $Path) { return [IO.File]::Exists((AlloyPath $Path)) }
function AlloyIsLink([string] $Path) {
  $found = AlloyAttributes $Path
  return ($null -ne $found) -and (([int] $found -band [int] [IO.FileAttributes]::ReparsePoint) -ne 0)
}
function AlloyProgram([string] $Name) {
  $pattern = [Management.Automation.WildcardPattern]::Escape($Name)
  $found = @(Microsoft.PowerShell.Core\\Get-Command -Name $pattern -CommandType Application -ErrorAction SilentlyContinue)
  if ($found.Count -eq 0) { return $null }
  return $found[0].Path
}
function AlloyRun([string] $Name, [string] $Arguments, [bool] $Quiet) {
  try {
    $program = AlloyProgram $Name
    if (-not $program) {
      if (-not $Quiet) { AlloyTell ($Name + ': no such program on PATH') }
      return 127
    }
    $start = [Diagnostics.ProcessStartInfo]::new()
    $start.FileName = $program
    $start.Arguments = $Arguments
    $start.UseShellExecute = $false
    $start.WorkingDirectory = (Microsoft.PowerShell.Management\\Get-Location -PSProvider FileSystem).ProviderPath
    $start.RedirectStandardOutput = $Quiet
    $start.RedirectStandardError = $Quiet
    $process = [Diagnostics.Process]::Start($start)
    if ($Quiet) {
      $null = $process.StandardOutput.BaseStream.CopyToAsync([IO.Stream]::Null)
      $null = $process.StandardError.BaseStream.CopyToAsync([IO.Stream]::Null)
    }
    $process.WaitForExit()
    return $process.ExitCode
  } catch {
    AlloyTell $_
    return 126
  }
}
function AlloyEnter([string] $Path) {
  try { Microsoft.PowerShell.Management\\Set-Location -LiteralPath $Path -ErrorAction Stop } catch { AlloyFail $_ }
}
function AlloyMake([string] $Path) {
  try { $null = [IO.Directory]::CreateDirectory((AlloyPath $Path)) } catch { AlloyFail $_ }
}
function AlloyOpenUp([string] $Path) {
  if (AlloyOnWindows) {
    [IO.File]::SetAttributes($Path, [IO.FileAttributes]::Normal)
  } elseif ([IO.Directory]::Exists($Path)) {
    $null = AlloyRun 'chmod' ('u+rwx "' + $Path.Replace('\\', '\\\\').Replace('"', '\\"') + '"') $true
  }
}
function AlloyRemoveTree([string] $Path) {
  $found = AlloyAttributes $Path
  if ($null -eq $found) { return }
  $directory = ([int] $found -band [int] [IO.FileAttributes]::Directory) -ne 0
  if (AlloyIsLink $Path) {
    if ($directory -and (AlloyOnWindows)) { [IO.Directory]::Delete($Path) } else { [IO.File]::Delete($Path) }
    return
  }
  if (-not $directory) {
    if (AlloyOnWindows) { AlloyOpenUp $Path }
    [IO.File]::Delete($Path)
    return
  }
  AlloyOpenUp $Path
  foreach ($entry in [IO.Directory]::GetFileSystemEntries($Path)) { AlloyRemoveTree $entry }
  [IO.Directory]::Delete($Path)
}
function AlloyDeep([string] $Path) {
  $place = $Path.Replace('/', '\\')
  if ($place -match '^[A-Za-z]:\\\\') { return '\\\\?\\' + $place }
  if ($place -match '^\\\\\\\\[^\\\\?.]') { return '\\\\?\\UNC' + $place.Substring(1) }
  return $place
}
function AlloyRemove([string] $Path) {
  if (-not (AlloyIsThere $Path)) { return }
  $place = AlloyPath $Path
  try {
    if ((AlloyIsDirectory $Path) -and -not (AlloyIsLink $Path)) { [IO.Directory]::Delete($place, $true) } else { AlloyRemoveTree $place }
    return
  } catch { }
  try { AlloyRemoveTree $place; return } catch { $problem = $_ }
  if (AlloyOnWindows) {
    try { AlloyRemoveTree (AlloyDeep $place); return } catch { $problem = $_ }
  }
  if (AlloyIsThere $Path) { AlloyFail $problem }
}
function AlloyRemoveNamed([string] $Path, [string[]] $Names) {
  $case = if (AlloyOnWindows) { [StringComparison]::OrdinalIgnoreCase } else { [StringComparison]::Ordinal }
  $left = [Collections.Stack]::new()
  if (AlloyIsDirectory $Path) { $left.Push((AlloyPath $Path)) }
  try {
    while ($left.Count -gt 0) {
      $directory = [string] $left.Pop()
      try { $entries = [IO.Directory]::GetFileSystemEntries($directory) } catch {
        AlloyOpenUp $directory
        $entries = [IO.Directory]::GetFileSystemEntries($directory)
      }
      foreach ($entry in $entries) {
        if ([IO.Directory]::Exists($entry) -and -not (AlloyIsLink $entry)) { $left.Push($entry); continue }
        $base = [IO.Path]::GetFileName($entry)
        foreach ($name in $Names) {
          $fits = if ($name.StartsWith('*')) { $base.EndsWith($name.Substring(1), $case) } else { $base.Equals($name, $case) }
          if (-not $fits) { continue }
          try { AlloyRemoveTree $entry } catch {
            AlloyOpenUp $directory
            AlloyRemoveTree $entry
          }
          break
        }
      }
    }
  } catch { AlloyFail $_ }
}
function AlloyNested([string] $Path, [string] $Name) {
  $top = AlloyPath $Path
  $left = [Collections.Stack]::new()
  $left.Push($top)
  try {
    while ($left.Count -gt 0) {
      $directory = [string] $left.Pop()
      foreach ($entry in [IO.Directory]::GetDirectories($directory)) {
        if (AlloyIsLink $entry) { continue }
        if ([IO.Path]::GetFileName($entry) -ne $Name) { $left.Push($entry); continue }
        if ($directory -ne $top) { return $true }
      }
    }
  } catch { return $true }
  return $false
}
function AlloyWrite([string] $Path, [string] $Content) {
  $place = AlloyPath $Path
  try {
    $null = [IO.Directory]::CreateDirectory([IO.Path]::GetDirectoryName($place))
    if (AlloyIsThere $place) { AlloyRemove $place }
    $file = [IO.FileStream]::new($place, [IO.FileMode]::CreateNew)
    try {
      if (-not (AlloyOnWindows)) { $null = AlloyRun 'chmod' ('600 "' + $place.Replace('\\', '\\\\').Replace('"', '\\"') + '"') $true }
      $bytes = [Text.UTF8Encoding]::new($false).GetBytes($Content)
      $file.Write($bytes, 0, $bytes.Length)
    } finally { $file.Dispose() }
  } catch { AlloyFail $_ }
}
${entries}
`.trim();

/** By name: its text, and which others it calls. */
const known: ReadonlyMap<string, { readonly text: string; readonly calls: readonly string[] }> = new Map(
  helpers.split(/^(?=function )/m).map((text) => {
    const [name = "", ...calls] = text.match(/\bAlloy[A-Z]\w*|(?<=^function )[\w-]+/g) ?? [];
    return [name, { text: text.trim(), calls }];
  }),
);

/** These functions and those that they call, in a fixed order: to read one takes PowerShell longer than to run it. */
export function helpersFor(names: Iterable<string>): string {
  const wanted = new Set<string>();
  const want = (name: string): void => {
    if (wanted.has(name)) return;
    wanted.add(name);
    for (const call of known.get(name)?.calls ?? []) want(call);
  };
  for (const name of names) want(name);
  return [...known].flatMap(([name, { text }]) => (wanted.has(name) ? [text] : [])).join("\n");
}

/** A script that removes the directory it is called with, however deep, with read-only files; links as links. Windows only. */
export const removeDeep = `
param([string] $Path)
$ErrorActionPreference = 'Stop'
function Remove-Entry([string] $Entry) {
  $found = [int] [IO.File]::GetAttributes($Entry)
  $directory = ($found -band [int] [IO.FileAttributes]::Directory) -ne 0
  if ($found -band [int] [IO.FileAttributes]::ReadOnly) { [IO.File]::SetAttributes($Entry, [IO.FileAttributes]::Normal) }
  if (-not $directory) { [IO.File]::Delete($Entry); return }
  if (($found -band [int] [IO.FileAttributes]::ReparsePoint) -eq 0) {
    foreach ($inner in [IO.Directory]::GetFileSystemEntries($Entry)) { Remove-Entry $inner }
  }
  [IO.Directory]::Delete($Entry)
}
if ($Path -match '^\\\\') { Remove-Entry ('\\\\?\\UNC' + $Path.Substring(1)) } else { Remove-Entry ('\\\\?\\' + $Path) }
`.trim();
