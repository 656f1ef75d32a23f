import { z } from "zod";
import { SystemFailure } from "../../../src/errors.ts";
import type { Note } from "../../../src/executor/prepare.ts";
import type { ShellName } from "../../../src/shell.ts";
import { storedTools, storeTools } from "../../remote/index.ts";
import type { Owner } from "../pod/labels.ts";
import type { Places } from "../pod/places.ts";

/** How a later process of the runner finds a job's pod again, in which the job goes on meanwhile. */

/** A note has no depth: what is deeper is in it as text. */
const asText = <T extends z.ZodType>(schema: T) =>
  z
    .string()
    .transform((text, context): unknown => {
      try {
        return JSON.parse(text);
      } catch {
        context.addIssue({ code: "custom", message: "no JSON" });
        return z.NEVER;
      }
    })
    .pipe(schema);

const container = z.strictObject({
  image: z.string(),
  memoryLimit: z.string(),
  tools: storedTools,
  hasHome: z.boolean(),
  hasEntrypoint: z.boolean(),
});

const handleSchema = z.strictObject({
  kind: z.literal("kubernetes-job"),
  server: z.string(),
  namespace: z.string(),
  installation: z.string(),
  /** The process that made the pod, as its label has it. */
  process: z.string(),
  pod: z.string(),
  uid: z.string(),
  host: z.string(),
  shell: z.enum(["bash", "sh", "pwsh"]),
  slot: z.number().int().nonnegative(),
  places: asText(
    z.strictObject({ buildsDir: z.string(), root: z.string(), tmpDir: z.string(), scriptsDir: z.string() }),
  ),
  build: asText(container),
  /** `null`: the build container does its work. */
  helper: asText(container).nullable(),
  services: asText(z.array(z.strictObject({ name: z.string(), container: z.string() }))),
  /** What services print is in the trace. */
  debugServices: z.boolean(),
});
export type Handle = z.output<typeof handleSchema>;
export type KnownContainer = z.output<typeof container>;

interface Container {
  readonly known: KnownContainer;
}

export interface Prepared {
  readonly server: string;
  readonly namespace: string;
  readonly owner: Owner;
  readonly pod: { readonly name: string; readonly uid: string };
  readonly host: string;
  readonly shell: ShellName;
  readonly slot: number;
  readonly places: Pick<Places, "buildsDir" | "root" | "tmpDir" | "scriptsDir">;
  readonly build: Container;
  readonly helper: Container;
  readonly services: readonly { readonly name: string; readonly container: string }[];
  readonly debugServices: boolean;
}

export function handleOf(prepared: Prepared): Note {
  const { server, namespace, owner, pod, host, shell, slot, build, helper, services, debugServices } = prepared;
  const { buildsDir, root, tmpDir, scriptsDir } = prepared.places;
  const stored = ({ known: { tools, ...known } }: Container): string =>
    JSON.stringify({ ...known, tools: storeTools(tools) });
  return {
    kind: "kubernetes-job",
    ...{ server, namespace, ...owner, pod: pod.name, uid: pod.uid, host, shell, slot, debugServices },
    places: JSON.stringify({ buildsDir, root, tmpDir, scriptsDir }),
    build: stored(build),
    helper: helper === build ? null : stored(helper),
    services: JSON.stringify(services.map(({ name, container: its }) => ({ name, container: its }))),
  };
}

/** @throws {SystemFailure} nobody can go on with it */
export function readHandle(handle: Note): Handle {
  const { data } = handleSchema.safeParse(handle);
  if (data === undefined) throw new SystemFailure("what was noted of its pod cannot be read");
  return data;
}
