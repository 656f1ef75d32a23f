/** CRC-32 (IEEE) as coordinators compare it: of `bytes`, continued from the `crc` of what stands before them. */
export { crc32 } from "node:zlib";

/** `crc32:1c291ca3`, as GitLab wants it in its reports. */
export function formatCrc32(crc: number): string {
  return `crc32:${(crc >>> 0).toString(16).padStart(8, "0")}`;
}
