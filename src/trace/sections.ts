/** Fold markers of GitLab's log viewer. They take no room on the screen: what follows overwrites them. */

/** @param unixSeconds when the section begins or ends */
export function sectionMarker(edge: "start" | "end", name: string, unixSeconds: number): Buffer {
  return Buffer.from(`section_${edge}:${unixSeconds}:${sectionName(name)}\r\x1b[0K`);
}

function sectionName(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9_]/g, "_") || "section";
}

const HEADINGS: Readonly<Record<string, string>> = {
  prepare_executor: "Preparing the environment",
  get_sources: "Getting the sources",
  restore_cache: "Restoring the cache",
  download_artifacts: "Downloading artifacts",
  build_script: "Executing the script",
  after_script: "Running after_script",
  archive_cache: "Saving the cache",
  upload_artifacts: "Uploading artifacts",
};

/** What a section is called where it is folded. */
export function sectionHeading(name: string): string {
  return Object.hasOwn(HEADINGS, name) ? (HEADINGS[name] ?? name) : `Executing the stage ${name}`;
}
