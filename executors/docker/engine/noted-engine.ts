import { z } from "zod";
import type { Note } from "../../../src/executor/prepare.ts";
import type { ConnectionSettings } from "../settings/settings.ts";
import { findEndpoint } from "./endpoint.ts";

const noteSchema = z.object({
  kind: z.literal("docker-job"),
  engine: z.string(),
  tlsCertPath: z.string().default(""),
  tlsVerify: z.boolean().default(false),
});

type Environment = Readonly<Record<string, string | undefined>>;

/** Kept with a job: where its containers are, whatever the configuration says by the time they have to be removed. */
export function engineNote(address: string, { tlsCertPath, tlsVerify }: ConnectionSettings, env: Environment): Note {
  return { kind: "docker-job", engine: address, tlsCertPath: tlsCertPath || (env.DOCKER_CERT_PATH ?? ""), tlsVerify };
}

/** Is there a note of this executor? */
export function hasEngineNote(notes: readonly Note[]): boolean {
  return notes.some((note) => noteSchema.safeParse(note).success);
}

/**
 * How the engine of a dead job is reached where that is not the configured one: the entry was changed, or is gone.
 * `null`: as configured, or only the configuration knows (an engine behind SSH, whose user is not noted).
 */
export async function notedConnection(
  notes: readonly Note[],
  configured: ConnectionSettings,
  env: Environment,
): Promise<ConnectionSettings | null> {
  const note = notes.map((each) => noteSchema.safeParse(each)).findLast(({ success }) => success)?.data;
  if (note === undefined || !/^(?:unix|tcp|https?|npipe):/i.test(note.engine)) return null;
  const endpoint = await findEndpoint(configured, env).catch(() => null);
  if (endpoint?.address === note.engine) return null;
  return { host: note.engine, tlsCertPath: note.tlsCertPath, tlsVerify: note.tlsVerify };
}
