import { SystemFailure } from "../errors.ts";
import type { Dependency } from "../job/job.ts";
import type { ArtifactUpload, TransferContext } from "./transfer.ts";

export async function downloadArtifacts(
  _dependencies: readonly Dependency[],
  _context: TransferContext,
  _signal: AbortSignal,
): Promise<void> {
  throw new SystemFailure("cannot download");
}

export async function uploadArtifacts(
  _upload: ArtifactUpload,
  _context: TransferContext,
  _signal: AbortSignal,
): Promise<void> {
  throw new SystemFailure("cannot upload");
}
