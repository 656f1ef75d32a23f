#!/usr/bin/env node
// Prints `N passed, N failed, N skipped` from a result file of the test runner. In CI a skipped test is a failure: nothing
// may be missing there, save PowerShell, which no archive of packages has; where CI could have it, its tests fail without it.
// What a contract asks and a place cannot have by its nature is named "(not here: WHY)": nothing is missing then.
import { readFileSync } from "node:fs";

if (process.argv.includes("--help")) {
  console.log("Use: node scripts/counts.mjs out/test-results.json");
  process.exit(0);
}
const file = process.argv[2] ?? "out/test-results.json";
let results;
try {
  results = JSON.parse(readFileSync(file, "utf8"));
} catch (error) {
  console.error(`no test results in ${file}: ${error.message}`);
  console.log("0 passed, 1 failed, 0 skipped");
  process.exit(1);
}
const skipped = results.testResults.flatMap((suite) =>
  suite.assertionResults.filter((one) => one.status !== "passed" && one.status !== "failed").map((one) => one.fullName),
);
if (process.env.CI === "true" && skipped.length > 0) console.error(`skipped in CI:\n  ${skipped.join("\n  ")}`);
const unexcused = skipped.filter((name) => !/needs pwsh \(PowerShell 7\) on PATH$|\(not here: .+\)$/.test(name));
// A file that cannot be loaded has no tests of its own, but it failed.
const brokenFiles = results.testResults.filter(
  (suite) => suite.status === "failed" && suite.assertionResults.length === 0,
);
for (const suite of brokenFiles) console.error(`could not be run: ${suite.name}`);
const failed = results.numFailedTests + brokenFiles.length;
console.log(`${results.numPassedTests} passed, ${failed} failed, ${skipped.length} skipped`);
if (failed > 0 || results.numPassedTests === 0 || (process.env.CI === "true" && unexcused.length > 0)) process.exit(1);
