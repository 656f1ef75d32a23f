import { z } from "zod";
import { SystemFailure } from "../../../../src/errors.ts";
import type { Note } from "../../../../src/executor/prepare.ts";
import type { ShellName } from "../../../../src/shell.ts";
import { asText } from "../../../common/note-text.ts";
import { storedTools, storeTools } from "../../../remote/index.ts";
import type { JobContainer } from "../../container/job-container.ts";
import type { Places } from "../../container/places.ts";
import type { PooledNetwork } from "../network/network-pool.ts";
import type { LoggingService } from "../services/follow-logs.ts";
import type { KeptFilesPlace } from "../workspace.ts";

/** How a later process of the runner finds a job's containers again, in which the job goes on meanwhile. */

/** Its `env` may be secret: it is in the job's private volume (`environment-file.ts`). */
const container = z.strictObject({
  id: z.string(),
  name: z.string(),
  image: z.string(),
  tools: storedTools,
  user: z.string().nullable(),
  trusted: z.boolean(),
});

const handleSchema = z.strictObject({
  kind: z.literal("docker-job"),
  engine: z.string(),
  installation: z.string(),
  shell: z.enum(["bash", "sh", "pwsh"]),
  slot: z.number().int().nonnegative(),
  places: asText(
    z.strictObject({
      buildsDir: z.string(),
      root: z.string(),
      tmpDir: z.string(),
      shared: z.boolean(),
      chosen: z.enum(["apart", "among-others"]).nullable(),
    }),
  ),
  build: asText(container),
  /** `null`: the build container does its work. */
  helper: asText(container).nullable(),
  /** `null`: its network is not the runner's. */
  network: asText(z.strictObject({ id: z.string(), name: z.string() })).nullable(),
  /** The name of its network, as the job knows it. */
  networkName: z.string().nullable(),
  keeps: asText(z.strictObject({ asideDir: z.string(), host: z.string() })).nullable(),
  /** Processes of the build container that no script has started; `null`: not known. */
  own: z.array(z.string()).readonly().nullable(),
  imageSeconds: z.number(),
  /** What they print is in the trace. */
  services: asText(z.array(z.strictObject({ id: z.string(), name: z.string(), names: z.array(z.string()) }))),
});
export type Handle = z.output<typeof handleSchema>;
export type KnownContainer = z.output<typeof container>;

export interface Prepared {
  readonly engine: string;
  readonly installation: string;
  readonly shell: ShellName;
  readonly slot: number;
  readonly places: Places;
  readonly build: JobContainer;
  readonly helper: JobContainer;
  readonly network: PooledNetwork | null;
  readonly networkName: string | undefined;
  readonly keeps: KeptFilesPlace | null;
  readonly own: ReadonlySet<string> | null;
  readonly imageSeconds: number;
  readonly services: readonly LoggingService[];
}

export function handleOf(prepared: Prepared): Note {
  const { engine, installation, shell, slot, places, build, helper, network, networkName, keeps, own } = prepared;
  const stored = ({ id, name, image, tools, user, trusted }: JobContainer): string =>
    JSON.stringify({ id, name, image, tools: storeTools(tools), user: user ?? null, trusted });
  return {
    kind: "docker-job",
    ...{ engine, installation, shell, slot },
    places: JSON.stringify(places),
    build: stored(build),
    helper: helper === build ? null : stored(helper),
    network: network === null ? null : JSON.stringify({ id: network.id, name: network.name }),
    networkName: networkName ?? null,
    keeps: keeps === null ? null : JSON.stringify(keeps),
    own: own === null ? null : [...own],
    imageSeconds: prepared.imageSeconds,
    services: JSON.stringify(prepared.services.map(({ id, wanted, names }) => ({ id, name: wanted.name, names }))),
  };
}

/** @throws {SystemFailure} nobody can go on with it */
export function readHandle(handle: Note): Handle {
  const { data } = handleSchema.safeParse(handle);
  if (data === undefined) throw new SystemFailure("what was noted of its containers cannot be read");
  return data;
}
