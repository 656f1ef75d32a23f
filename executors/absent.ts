/**
 * Executors that the Go runner or GitLab Runner has and this program has not: their names and tables are told from misspelt
 * ones. Who adds one of them takes its table along into its own words.
 */
const names: readonly string[] = [
  "docker-ssh+machine",
  "parallels",
  "virtualbox",
  "docker-windows",
  "docker-autoscaler",
  "instance",
];

/** Tables below `[[runners]]` → their keys, lower case. */
const keys: Readonly<Record<string, string>> = {
  parallels: `base_name template_name disable_snapshots time_server allowed_images`,
  virtualbox: `base_name base_snapshot base_folder disable_snapshots allowed_images start_type`,
};

export const absent = { names, keys };
