import { entries } from "./powershell-entries.ts";

/**
 * What scripts for PowerShell are made of: functions over .NET rather than cmdlets, because cmdlets take `[`, `*` and `?`
 * in paths for patterns, differ between editions, and may be hidden by functions of the author's. Each stops the script if
 * it fails, whatever the author's error preference is. Works from Windows PowerShell 5.1 on; names no value of a job.
 */
export const prelude = `
try { [Console]::OutputEncoding = New-Object Text.UTF8Encoding $false } catch { }
try { [Console]::InputEncoding = New-Object Text.UTF8Encoding $false } catch { }
$OutputEncoding = New-Object Text.UTF8Encoding $false
$ProgressPreference = 'SilentlyContinue'
Microsoft.PowerShell.Utility\\Set-Variable -Name AlloyState -Option Constant -Value @{
  Depth = 0; Due = 0; Done = 0; Units = @(); Unit = $null; Passed = $null; Ended = $false
}
function AlloyStop([int] $Status) {
  if ($AlloyState.Depth -gt 0) { throw (New-Object OperationCanceledException "alloy-status $Status") }
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
  try { [Console]::Out.Write($Text + [char]10); [Console]::Out.Flush() } catch { }
}
function AlloySet([string] $Name, [string] $Value, [bool] $Bare) {
  try { [Environment]::SetEnvironmentVariable($Name, $Value) } catch { AlloyFail $_ }
  if ($Bare) {
    try { Microsoft.PowerShell.Utility\\Set-Variable -Name $Name -Value $Value -Scope Global -ErrorAction Stop } catch { }
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
    $start = New-Object Diagnostics.ProcessStartInfo
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
  $left = New-Object Collections.Stack
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
  $left = New-Object Collections.Stack
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
    $file = New-Object IO.FileStream $place, ([IO.FileMode]::CreateNew)
    try {
      if (-not (AlloyOnWindows)) { $null = AlloyRun 'chmod' ('600 "' + $place.Replace('\\', '\\\\').Replace('"', '\\"') + '"') $true }
      $bytes = (New-Object Text.UTF8Encoding $false).GetBytes($Content)
      $file.Write($bytes, 0, $bytes.Length)
    } finally { $file.Dispose() }
  } catch { AlloyFail $_ }
}
${entries}
`.trim();

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
