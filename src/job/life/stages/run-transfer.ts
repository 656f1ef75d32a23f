import { downloadArtifacts, uploadArtifacts } from "../../../transfer/artifacts/artifacts.ts";
import { archiveCaches, restoreCaches } from "../../../transfer/cache/cache.ts";
import type { Transfer, TransferContext } from "../../../transfer/transfer.ts";

/**
 * Move the files of one stage.
 * @throws {ScriptFailure} the job's fault: an artifact that is refused, an archive that is damaged
 * @throws {SystemFailure} what came of the coordinator, the disk or the network
 * Otherwise rejects with `signal.reason` only.
 */
export async function runTransfer(transfer: Transfer, context: TransferContext, signal: AbortSignal): Promise<void> {
  switch (transfer.what) {
    case "restore_cache":
      return await restoreCaches(transfer, context, signal);
    case "archive_cache":
      return await archiveCaches(transfer, context, signal);
    case "download_artifacts":
      return await downloadArtifacts(transfer, context, signal);
    case "upload_artifacts":
      return await uploadArtifacts(transfer.upload, context, signal);
  }
}
