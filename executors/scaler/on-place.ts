import { Readable } from "node:stream";
import { describeError, SystemFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Log } from "../../src/log.ts";
import { deadline, never, unlessAborted } from "../../src/time.ts";
import type { Workspace } from "../../src/workspace.ts";
import type { Place } from "./pool/contract.ts";

/** How long the question may take whether an instance is still there. */
const ASK_MS = 15_000;

/** An environment on an instance that may go away under it: then nothing that asks there is waited for any more. */
export function onPlace<C>(environment: Environment, place: Place<C>, log: Log): Environment {
  const { id, word, lost, isThere } = place;
  const isGone = async (): Promise<boolean> => {
    using limit = deadline(never, ASK_MS, new SystemFailure("it does not say whether it is there"));
    return !(await isThere(limit.signal).catch(() => false));
  };
  /** What `work` comes to; where it fails because the instance is gone, that is said instead. */
  const whileThere: Guarded["whileThere"] = async (work, signal) => {
    try {
      return await unlessAborted(work, lost);
    } catch (error) {
      if (!signal.aborted && error instanceof SystemFailure && (await isGone())) lost.throwIfAborted();
      throw error;
    }
  };
  const either = (signal: AbortSignal): AbortSignal => AbortSignal.any([signal, lost]);
  return {
    ...environment,
    // Most clouds give a machine its name, which its engine then says.
    host: environment.host.includes(id) ? environment.host : `${environment.host}, ${word} ${id}`,
    workspace: workspaceOn(environment.workspace, { whileThere, either }),
    run: (script, output, signal) => whileThere(environment.run(script, output, either(signal)), signal),
    async destroy(signal) {
      try {
        await unlessAborted(environment.destroy(signal), lost);
      } catch (error) {
        if (!lost.aborted && (signal.aborted || !(await isGone()))) throw error;
        log.debug(`nothing is removed on a ${word} that is gone`, { [word]: id, problem: describeError(error) });
      }
    },
  };
}

interface Guarded {
  whileThere<T>(work: Promise<T>, signal: AbortSignal): Promise<T>;
  /** Fires with this one, and when the instance is gone. */
  either(signal: AbortSignal): AbortSignal;
}

function workspaceOn(workspace: Workspace, place: Guarded): Workspace {
  const { whileThere, either } = place;
  return {
    ...workspace,
    list: (select, signal) => whileThere(workspace.list(select, either(signal)), signal),
    async pack(paths, signal) {
      const { tar, warnings } = await whileThere(workspace.pack(paths, either(signal)), signal);
      return { tar: Readable.from(piecesOf(tar, place, signal), { objectMode: false }), warnings };
    },
    async unpack(tar, limits, signal) {
      try {
        return await whileThere(workspace.unpack(tar, limits, either(signal)), signal);
      } finally {
        // What unpacks it may still be waiting for the instance.
        tar.destroy();
      }
    },
  };
}

/** Each piece is waited for by itself: if `tar` were destroyed, its reader would wait until the instance answers. */
async function* piecesOf(tar: Readable, { whileThere }: Guarded, signal: AbortSignal): AsyncGenerator<unknown> {
  const pieces = tar.iterator();
  try {
    for (;;) {
      const piece = await whileThere(pieces.next(), signal);
      if (piece.done === true) return;
      yield piece.value;
    }
  } finally {
    tar.destroy();
  }
}
