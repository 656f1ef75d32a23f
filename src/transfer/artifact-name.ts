const LONGEST_NAME_BYTES = 200;
const ENDINGS = { zip: ".zip", gzip: ".gz", raw: "" } as const;

/**
 * The name that an upload has for those who download it: the last segment of what the job says, without what no file system
 * takes; `artifacts` where nothing is left.
 */
export function artifactFileName(name: string, format: keyof typeof ENDINGS): string {
  const last =
    name
      .split(/[\\/]/)
      .filter((segment) => segment.trim() !== "")
      .at(-1) ?? "";
  const clean = last.replace(/[\x00-\x1f\x7f"<>|:*?]/g, "_").trim();
  let short = [...clean].slice(0, LONGEST_NAME_BYTES).join("");
  while (Buffer.byteLength(short) > LONGEST_NAME_BYTES) short = [...short].slice(0, -1).join("");
  return `${/^\.*$/.test(short) ? "artifacts" : short}${ENDINGS[format]}`;
}
