/**
 * Executors that the Go runner or GitLab Runner has and this program has not: their names and tables are told from misspelt
 * ones. Who adds one of them takes its table along into its own words.
 */
const names: readonly string[] = ["docker-windows"];

/** Tables below `[[runners]]` → their keys, lower case. */
const keys: Readonly<Record<string, string>> = {};

export const absent = { names, keys };
