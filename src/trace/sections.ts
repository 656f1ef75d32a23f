/** Fold markers of GitLab's log viewer. They take no room on the screen: what follows overwrites them. */

/** @param unixSeconds when the section begins or ends */
export function sectionMarker(edge: "start" | "end", name: string, unixSeconds: number): Buffer {
  return Buffer.from(`section_${edge}:${unixSeconds}:${sectionName(name)}\r\x1b[0K`);
}

function sectionName(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9_]/g, "_") || "section";
}
