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
  return @{ Number = $Number; Tree = $tree; Problems = @($problems); Open = @($problems | & { process { if ($_.IncompleteInput) { $_ } } }) }
}
function AlloyComplain([string] $Text, $Parsed) {
  $lines = $Text.Split([char] 10)
  foreach ($problem in $Parsed.Problems) {
    $place = $problem.Extent
    $line = $lines[$place.StartLineNumber - 1]
    $width = if ($place.EndLineNumber -eq $place.StartLineNumber) { $place.EndColumnNumber - $place.StartColumnNumber } else { 1 }
    $number = ([string] $place.StartLineNumber).PadLeft(4)
    [Console]::Error.Write((@(
      "ParserError: entry $($Parsed.Number):$($place.StartLineNumber)"
      'Line |'
      "$number |  $line"
      '     |  ' + (' ' * ($place.StartColumnNumber - 1)) + ('~' * [Math]::Max(1, $width))
      '     | ' + $problem.Message
      ''
    ) -join [char] 10))
  }
  AlloyStop 1
}
function AlloyRead([string[]] $Texts) {
  $ErrorActionPreference = 'Stop'
  try {
    $units = New-Object Object[] $Texts.Count
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
      if ($parsed.Problems.Count -gt 0 -and -not $late) { AlloyComplain $text $parsed }
      for ($index = $first; $index -lt $last; $index++) { $units[$index] = 'part of a later one' }
      $units[$last] = @{ Number = $first + 1; Text = $text; Usings = $usings; Block = $null }
      if (-not $late) { $units[$last].Block = AlloyBlock $parsed.Tree $usings }
      if ($first -eq 0) { $usings = @($parsed.Tree.UsingStatements) }
    }
    $AlloyState.Units = $units
  } catch { AlloyFail $_ }
}
function AlloyUsing($Statement) {
  if ($null -ne $Statement.ModuleSpecification) {
    return New-Object Management.Automation.Language.UsingStatementAst $Statement.Extent, $Statement.ModuleSpecification.Copy()
  }
  $words = @($Statement.Extent, $Statement.UsingStatementKind)
  if ($null -ne $Statement.Alias) { $words += $Statement.Alias.Copy() }
  $words += $Statement.Name.Copy()
  return New-Object Management.Automation.Language.UsingStatementAst $words
}
function AlloyBlock($Tree, $Usings) {
  $language = 'Management.Automation.Language'
  $frame = [Management.Automation.Language.Parser]::ParseInput('$AlloyState.Passed = $true; $AlloyState.Passed = $?', [ref] $null, [ref] $null)
  $statements = New-Object "Collections.Generic.List[$language.StatementAst]"
  $traps = New-Object "Collections.Generic.List[$language.TrapStatementAst]"
  $attributes = New-Object "Collections.Generic.List[$language.AttributeAst]"
  $head = New-Object "Collections.Generic.List[$language.UsingStatementAst]"
  foreach ($one in @($Usings) + @($Tree.UsingStatements)) { $head.Add((AlloyUsing $one)) }
  $statements.Add($frame.EndBlock.Statements[0].Copy())
  foreach ($one in $Tree.EndBlock.Statements) { $statements.Add($one.Copy()) }
  $statements.Add($frame.EndBlock.Statements[1].Copy())
  foreach ($one in $Tree.EndBlock.Traps) { $traps.Add($one.Copy()) }
  foreach ($one in $Tree.Attributes) { $attributes.Add($one.Copy()) }
  $parts = @($Tree.ParamBlock, $Tree.BeginBlock, $Tree.ProcessBlock, $Tree.DynamicParamBlock) | & { process { if ($null -eq $_) { , $null } else { , $_.Copy() } } }
  $body = New-Object "$language.StatementBlockAst" $Tree.Extent, $statements, $traps
  $end = New-Object "$language.NamedBlockAst" $Tree.Extent, 'End', $body, ($null -eq $Tree.EndBlock -or $Tree.EndBlock.Unnamed)
  return [Management.Automation.Language.ScriptBlockAst]::new($Tree.Extent, $head, $attributes, $parts[0], $parts[1], $parts[2], $end, $parts[3]).GetScriptBlock()
}
function AlloyEntry([int] $AlloyIndex) {
  $AlloyState.Unit = $AlloyState.Units[$AlloyIndex]
  if ($AlloyState.Unit -is [string]) { $AlloyState.Done++; return }
  if ($null -eq $AlloyState.Unit.Block) { AlloyLate }
  $AlloyState.Passed = $null
  $AlloyState.Ended = $false
  $global:LASTEXITCODE = 0
  do {
    . $AlloyState.Unit.Block
    $AlloyState.Ended = $true
  } while ($false)
  AlloyJudge
}
function AlloyLate {
  $parsed = AlloyParse $AlloyState.Unit.Text $AlloyState.Unit.Number
  if ($parsed.Problems.Count -gt 0) { AlloyComplain $AlloyState.Unit.Text $parsed }
  try { $AlloyState.Unit.Block = AlloyBlock $parsed.Tree $AlloyState.Unit.Usings } catch { AlloyFail $_ }
}
function AlloyJudge {
  $status = if ($global:LASTEXITCODE -is [int] -and $global:LASTEXITCODE -ne 0) { $global:LASTEXITCODE } else { 1 }
  if (-not $AlloyState.Ended) {
    AlloyTell "entry $($AlloyState.Unit.Number): break or continue outside of a loop ended it"
    AlloyStop 1
  }
  if ($AlloyState.Passed -ne $true) { AlloyStop $status }
  $AlloyState.Done++
}`;
