import { createServer } from "node:net";
import type { Config } from "../../config/config.ts";
import { describeError } from "../../errors.ts";
import { parseListenAddress } from "../../metrics/server.ts";
import type { Note } from "./finding.ts";

/** Where a runner that is not running would serve: whether it could. */
export async function checkAddresses({ metricsAddress, web }: Config): Promise<Note[]> {
  const notes: Note[] = [];
  if (metricsAddress !== "") {
    const problem = await problemAt(() => parseListenAddress(metricsAddress));
    const remedy = "Free it, or set another listen_address: the runner does not start otherwise";
    notes.push(noteOf("metrics address", metricsAddress, problem, { severity: "error", remedy }));
  }
  if (web !== null) {
    const problem = await problemAt(() => web);
    const remedy = "Free it, or set another listen_address in [web]: there is no page otherwise";
    notes.push(noteOf("page address", `${web.host}:${web.port}`, problem, { severity: "warning", remedy }));
  }
  return notes;
}

interface Wrong {
  readonly severity: "error" | "warning";
  readonly remedy: string;
}

function noteOf(check: string, of: string, problem: string | null, { severity, remedy }: Wrong): Note {
  if (problem === null) return { severity: "ok", check, of, cause: "can be had" };
  return { severity, check, of, cause: problem, remedy };
}

/** Listens there for a moment. */
async function problemAt(addressOf: () => { host: string | undefined; port: number }): Promise<string | null> {
  try {
    const { host, port } = addressOf();
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(host === undefined ? { port } : { host, port }, resolve);
    });
    await new Promise((resolve) => server.close(resolve));
    return null;
  } catch (error) {
    return `cannot be had: ${describeError(error)}`;
  }
}
