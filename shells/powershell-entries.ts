/**
 * How PowerShell reads and runs the author's entries. Each is parsed as a text of its own, named "entry 1", so that what
 * PowerShell says of it has the author's lines and numbers; `if` and its like may be spread over several entries, which then
 * are one. All run in the scope of the script.
 */
export const entries = `
function AlloyParse([string] $Text, [int] $Number) {
  $tokens = $null
  $problems = $null
  $tree = [Management.Automation.Language.Parser]::ParseInput($Text, "entry $Number", [ref] $tokens, [ref] $problems)
  return @{ Number = $Number; Tree = $tree; Problems = $problems; Open = if ($problems.Count -eq 0) { @() } else { @($problems | & { process { if ($_.IncompleteInput) { $_ } } }) } }
}
function AlloyComplain($Parsed) {
  foreach ($problem in $Parsed.Problems) {
    $place = $problem.Extent
    $width = if ($place.EndLineNumber -eq $place.StartLineNumber) { $place.EndColumnNumber - $place.StartColumnNumber } else { 1 }
    $number = ([string] $place.StartLineNumber).PadLeft(4)
    [Console]::Error.Write((@(
      "ParserError: entry $($Parsed.Number):$($place.StartLineNumber)"
      'Line |'
      "$number |  $($place.StartScriptPosition.Line.TrimEnd())"
      '     |  ' + (' ' * ($place.StartColumnNumber - 1)) + ('~' * [Math]::Max(1, $width))
      '     | ' + $problem.Message
      ''
    ) -join [char] 10))
  }
  AlloyStop 1
}
function AlloyRead([string[]] $Texts) {
  $ErrorActionPreference = 'Stop'
  $global:Error.Clear()
  try {
    $AlloyState.Units = [object[]]::new($Texts.Count)
    $usings = @()
    for ($first = 0; $first -lt $Texts.Count; $first = $last + 1) {
      $last = $first
      $text = $Texts[$first]
      $alone = $parsed = AlloyParse $text ($first + 1)
      if ($parsed.Open.Count -gt 0 -and $first + 1 -lt $Texts.Count) {
        # What stays open to the end is not worth a try with each entry.
        $rest = AlloyParse ($Texts[$first..($Texts.Count - 1)] -join [char] 10) ($first + 1)
        while ($rest.Open.Count -eq 0 -and $parsed.Open.Count -gt 0 -and $last + 1 -lt $Texts.Count) {
          $last++
          $text += [char] 10 + $Texts[$last]
          $parsed = AlloyParse $text ($first + 1)
        }
        if ($parsed.Problems.Count -gt 0) { $parsed = $alone; $text = $Texts[$first]; $last = $first }
      }
      # A class may be made by an earlier entry.
      $late = $first -gt 0 -and $parsed.Problems.Count -gt 0 -and
        @($parsed.Problems | & { process { if ($_.ErrorId -ne 'TypeNotFound') { $_ } } }).Count -eq 0 -and
        (AlloyParse ($Texts[0..$last] -join [char] 10) 1).Problems.Count -eq 0
      if ($parsed.Problems.Count -gt 0 -and -not $late) { AlloyComplain $parsed }
      for ($index = $first; $index -lt $last; $index++) { $AlloyState.Units[$index] = { $AlloyPassed = $true } }
      AlloyTake $last @{ Number = $first + 1; Text = $text; Usings = $usings; Block = $null; Tree = $parsed.Tree }
      if (-not $late) { $AlloyState.Taken[$last].Block = AlloyBlock $parsed.Tree $usings }
      if ($first -eq 0) { $usings = @($parsed.Tree.UsingStatements) }
    }
  } catch { AlloyFail $_ }
}
function AlloyTake([int] $Index, $Unit) {
  # From here on this one runs by what is below.
  $AlloyState.Taken[$Index] = $Unit
  $AlloyState.Units[$Index] = [ScriptBlock]::Create(". AlloyEntry $Index; \`$AlloyPassed = \`$AlloyState.Done -eq $Index")
}
function AlloyGuard([int] $Index) {
  # What is below sees a program's failure that is an exception.
  if (-not $AlloyState.Taken.ContainsKey($Index)) { AlloyTake $Index (AlloyFind $Index) }
}
function AlloyFind([int] $Index) {
  # A plain one, without what was put behind it.
  $text = $AlloyState.Units[$Index].Ast.Extent.Text
  $text = $text.Substring(0, $text.LastIndexOf([char] 10))
  return @{ Number = $Index + 1; Text = $text; Usings = @(); Block = $null; Tree = (AlloyParse $text ($Index + 1)).Tree }
}
function AlloyRequire([string] $Place) {
  # PowerShell looks at these lines in files only.
  foreach ($unit in $AlloyState.Taken.Values) {
    if ($null -eq $unit.Tree.ScriptRequirements) { continue }
    $file = [IO.Path]::Combine((AlloyPath $Place), "entry $($unit.Number).ps1")
    AlloyWrite $file (@($unit.Text.Split([char] 10) -match '^\\s*#requires\\s') -join [char] 10)
    try { . $file } catch { AlloyFail $_ } finally { AlloyRemove $file }
  }
}
function AlloyUsing($Statement) {
  $extent = $Statement.Extent
  if ($null -ne $Statement.ModuleSpecification) {
    return [Management.Automation.Language.UsingStatementAst]::new($extent, $Statement.ModuleSpecification.Copy())
  }
  return [Management.Automation.Language.UsingStatementAst]::new($extent, $Statement.UsingStatementKind, $Statement.Name.Copy())
}
function AlloyBlock($Tree, $Usings) {
  # The author's statements as they are, between a few of ours, which a debug trace shows.
  Microsoft.PowerShell.Core\\Set-StrictMode -Off
  $frame = [Management.Automation.Language.Parser]::ParseInput((@(
    '$MyInvocation.DisplayScriptPosition = $AlloyState.Unit.Tree.Extent'
    '$AlloyState.Passed = $true'
    'if ($AlloyState.Traced) { Microsoft.PowerShell.Core\\Set-PSDebug -Trace 1 }'
    '$AlloyState.Passed = $?'
  ) -join [char] 10), [ref] $null, [ref] $null).EndBlock.Statements
  $statements = [Collections.Generic.List[Management.Automation.Language.StatementAst]]::new()
  $traps = [Collections.Generic.List[Management.Automation.Language.TrapStatementAst]]::new()
  $attributes = [Collections.Generic.List[Management.Automation.Language.AttributeAst]]::new()
  $head = [Collections.Generic.List[Management.Automation.Language.UsingStatementAst]]::new()
  foreach ($one in @($Usings) + @($Tree.UsingStatements)) { $head.Add((AlloyUsing $one)) }
  foreach ($one in $frame[0..2]) { $statements.Add($one.Copy()) }
  foreach ($one in $Tree.EndBlock.Statements) { $statements.Add($one.Copy()) }
  $statements.Add($frame[3].Copy())
  foreach ($one in $Tree.EndBlock.Traps) { $traps.Add($one.Copy()) }
  foreach ($one in $Tree.Attributes) { $attributes.Add($one.Copy()) }
  $body = [Management.Automation.Language.StatementBlockAst]::new($Tree.Extent, $statements, $traps)
  $unnamed = $null -eq $Tree.BeginBlock -and $null -eq $Tree.ProcessBlock -and ($null -eq $Tree.EndBlock -or $Tree.EndBlock.Unnamed)
  $parts = @($Tree.ParamBlock, $Tree.BeginBlock, $Tree.ProcessBlock, $null, $Tree.CleanBlock, $Tree.DynamicParamBlock)
  for ($index = 0; $index -lt $parts.Count; $index++) { if ($null -ne $parts[$index]) { $parts[$index] = $parts[$index].Copy() } }
  $parts[3] = [Management.Automation.Language.NamedBlockAst]::new($Tree.Extent, 'End', $body, $unnamed)
  # Before 7.3 there is no block that cleans up.
  if ($null -eq $parts[4]) { $parts = $parts[0, 1, 2, 3, 5] }
  return [Management.Automation.Language.ScriptBlockAst].GetConstructor(@(
      [Management.Automation.Language.IScriptExtent], [Collections.Generic.IEnumerable[Management.Automation.Language.UsingStatementAst]]
      [Collections.Generic.IEnumerable[Management.Automation.Language.AttributeAst]], [Management.Automation.Language.ParamBlockAst]
    ) + @([Management.Automation.Language.NamedBlockAst]) * ($parts.Count - 1)).Invoke(@($Tree.Extent, $head, $attributes) + $parts).GetScriptBlock()
}
function AlloyEntry([int] $AlloyIndex) {
  $AlloyState.Done = -1
  $AlloyState.Unit = $AlloyState.Taken[$AlloyIndex]
  if ($null -eq $AlloyState.Unit.Block) { AlloyLate }
  $AlloyState.Passed = $null
  $AlloyState.Ended = $false
  $AlloyState.Error = if ($global:Error.Count -gt 0) { $global:Error[0] }
  if (AlloyThrows) {
    do {
      try { . $AlloyState.Unit.Block } catch { AlloyThrown $_; throw }
      if ($AlloyState.Traced) { Microsoft.PowerShell.Core\\Set-PSDebug -Off }
      $AlloyState.Ended = $true
    } while ($false)
  } else {
    do {
      . $AlloyState.Unit.Block
      if ($AlloyState.Traced) { Microsoft.PowerShell.Core\\Set-PSDebug -Off }
      $AlloyState.Ended = $true
    } while ($false)
  }
  AlloyJudge
  $AlloyState.Done = $AlloyIndex
}
function AlloyThrows {
  # In a try, Continue would not go on after an exception: no entry that may set it is run in one.
  if ([string] $ErrorActionPreference -ne 'Stop') { return $false }
  $name = 'PSNativeCommandUseErrorActionPreference'
  if (-not $AlloyState.Native -and -not $ExecutionContext.SessionState.PSVariable.GetValue($name)) { return $false }
  $text = $AlloyState.Unit.Text
  return ($text -replace $name -replace 'ErrorActionPreference\\s*=\\s*["'']?Stop') -notmatch 'ErrorActionPreference'
}
function AlloyThrown($Problem) {
  # The type is there from PowerShell 7.4 on.
  if ($Problem.Exception.GetType().Name -eq 'NativeCommandExitException') { $host.SetShouldExit($Problem.Exception.ExitCode) }
}
function AlloyLate {
  $parsed = AlloyParse $AlloyState.Unit.Text $AlloyState.Unit.Number
  if ($parsed.Problems.Count -gt 0) { AlloyComplain $parsed }
  try {
    $AlloyState.Unit.Tree = $parsed.Tree
    $AlloyState.Unit.Block = AlloyBlock $parsed.Tree $AlloyState.Unit.Usings
  } catch { AlloyFail $_ }
}
function AlloyHandled {
  # How a command of the last statement takes its errors, if it says so. Programs take no such word.
  Microsoft.PowerShell.Core\\Set-StrictMode -Off
  $last = $AlloyState.Unit.Tree.EndBlock.Statements | Microsoft.PowerShell.Utility\\Select-Object -Last 1
  $renewed = -not [object]::ReferenceEquals($global:Error[0], $AlloyState.Error)
  if ($last -is [Management.Automation.Language.TryStatementAst]) { return $(if ($last.CatchClauses.Count -gt 0 -and $renewed) { 'Ignore' }) }
  while ($last -is [Management.Automation.Language.AssignmentStatementAst]) { $last = $last.Right }
  if ($last -isnot [Management.Automation.Language.PipelineAst]) { return }
  $word = $null
  foreach ($command in $last.PipelineElements) {
    if ($command -isnot [Management.Automation.Language.CommandAst]) { continue }
    for ($at = 1; $at -lt $command.CommandElements.Count; $at++) {
      $element = $command.CommandElements[$at]
      if ($element -isnot [Management.Automation.Language.CommandParameterAst]) { continue }
      if ($element.ParameterName -ne 'ea' -and ($element.ParameterName.Length -lt 6 -or -not 'ErrorAction'.StartsWith($element.ParameterName, 'OrdinalIgnoreCase'))) { continue }
      $value = if ($null -ne $element.Argument) { $element.Argument } else { $command.CommandElements[$at + 1] }
      if ($value -is [Management.Automation.Language.ConstantExpressionAst]) { $word = [string] ([Management.Automation.ActionPreference] $value.Value) }
    }
  }
  return $word
}
function AlloyJudge {
  if (-not $AlloyState.Ended) { AlloyBlame 1 'break or continue outside of a loop ended it' }
  if ($null -eq $AlloyState.Passed) { AlloyBlame 1 'it did not run' }
  if ($AlloyState.Passed) { return }
  $preference = [string] $ErrorActionPreference
  $own = try { AlloyHandled } catch { $null }
  if ($null -ne $own) { $preference = $own }
  $handled = $own -eq 'Ignore' -or $own -eq 'SilentlyContinue'
  $thrown = $preference -eq 'Stop' -and $ExecutionContext.SessionState.PSVariable.GetValue('PSNativeCommandUseErrorActionPreference') -eq $true
  if ($global:LASTEXITCODE -is [int] -and $global:LASTEXITCODE -ne 0 -and -not $handled -and -not $thrown) {
    AlloyBlame $global:LASTEXITCODE "the last program it ran ended with status $global:LASTEXITCODE"
  }
  if ($preference -ne 'Stop' -and $preference -ne 'SilentlyContinue' -and $preference -ne 'Ignore') {
    AlloyBlame 1 'its last command failed'
  }
}
function AlloyWeigh([int] $Index) {
  # Of one that has not said that it ended well: did it, all the same?
  if ($AlloyState.Taken.ContainsKey($Index)) { AlloyBlame 1 'it did not run' }
  $AlloyState.Unit = AlloyFind $Index
  $AlloyState.Ended = $AlloyEnded
  $AlloyState.Passed = $AlloyPassed
  if ($null -eq $AlloyPassed -and $AlloyState.Unit.Tree.Find({ $args[0] -is [Management.Automation.Language.ReturnStatementAst] }, $false)) {
    $AlloyState.Passed = $true
  }
  AlloyJudge
  return $true
}
function AlloyBlame([int] $Status, [string] $Why) {
  AlloyTell "entry $($AlloyState.Unit.Number): $Why"
  AlloyStop $Status
}
function Write-Error {
  [CmdletBinding(DefaultParameterSetName = 'NoException')]
  param(
    [Parameter(ParameterSetName = 'WithException', Mandatory = $true)] [Exception] $Exception,
    [Parameter(ParameterSetName = 'NoException', Mandatory = $true, Position = 0, ValueFromPipeline = $true)]
    [Parameter(ParameterSetName = 'WithException')] [Alias('Msg')] [AllowNull()] [AllowEmptyString()] [string] $Message,
    [Parameter(ParameterSetName = 'ErrorRecord', Mandatory = $true)] [Management.Automation.ErrorRecord] $ErrorRecord,
    [Parameter(ParameterSetName = 'NoException')] [Parameter(ParameterSetName = 'WithException')]
    [Management.Automation.ErrorCategory] $Category = 'NotSpecified',
    [Parameter(ParameterSetName = 'NoException')] [Parameter(ParameterSetName = 'WithException')] [string] $ErrorId,
    [Parameter(ParameterSetName = 'NoException')] [Parameter(ParameterSetName = 'WithException')] [object] $TargetObject,
    [string] $RecommendedAction,
    [Alias('Activity')] [string] $CategoryActivity, [Alias('Reason')] [string] $CategoryReason,
    [Alias('TargetName')] [string] $CategoryTargetName, [Alias('TargetType')] [string] $CategoryTargetType
  )
  process {
    $record = $ErrorRecord
    if ($null -eq $record) {
      $cause = $Exception
      if ($null -eq $cause) { $cause = [Microsoft.PowerShell.Commands.WriteErrorException]::new($Message) }
      $id = if ($ErrorId) { $ErrorId } else { $cause.GetType().FullName }
      $record = [Management.Automation.ErrorRecord]::new($cause, $id, $Category, $TargetObject)
      if ($Exception -and $Message) { $record.ErrorDetails = [Management.Automation.ErrorDetails]::new($Message) }
    }
    if ($RecommendedAction) {
      if ($null -eq $record.ErrorDetails) { $record.ErrorDetails = [Management.Automation.ErrorDetails]::new([string] $record) }
      $record.ErrorDetails.RecommendedAction = $RecommendedAction
    }
    $record.CategoryInfo.Activity = if ($CategoryActivity) { $CategoryActivity } else { 'Write-Error' }
    if ($CategoryReason) { $record.CategoryInfo.Reason = $CategoryReason }
    if ($CategoryTargetName) { $record.CategoryInfo.TargetName = $CategoryTargetName }
    if ($CategoryTargetType) { $record.CategoryInfo.TargetType = $CategoryTargetType }
    $PSCmdlet.WriteError($record)
  }
}`;
