import { createConnections } from "../../src/coordinator/connection/connections.ts";
import { SystemFailure } from "../../src/errors.ts";
import type { SecretRequest, Variable } from "../../src/job/job.ts";
import { expandReferences } from "../../src/job/variables/expand.ts";
import { createSecretAmount } from "../../src/job/variables/secret-amount.ts";
import { resolveSecrets, type SecretMeans } from "../../src/secrets/resolve.ts";
import { never } from "../../src/time.ts";

export interface Resolving {
  readonly variables?: Readonly<Record<string, string>>;
  readonly means?: Partial<SecretMeans>;
  readonly mustExist?: boolean;
  readonly attempts?: number;
}

/** What a job's secrets become, and what was hidden and said on the way. */
export async function resolve(
  secrets: readonly (Partial<SecretRequest> & Pick<SecretRequest, "from" | "wanted">)[],
  { variables = {}, means = {}, mustExist = true, attempts = 1 }: Resolving = {},
) {
  const hides: (readonly string[])[] = [];
  const said: string[] = [];
  let values: readonly Variable[] | undefined;
  let failure: SystemFailure | undefined;
  try {
    values = await resolveSecrets(
      {
        secrets: secrets.map((secret, index) => ({ name: `SECRET_${index}`, file: false, ...secret })),
        expand: (text) => expandReferences(text, (name) => variables[name] ?? ""),
        get: (name) => variables[name],
        count: createSecretAmount().add,
        hide: (more) => void hides.push(more),
        mustExist,
        attempts,
        attemptPauseMs: 5,
        print: (text) => void said.push(text),
      },
      {
        connections: createConnections(),
        userAgent: "test",
        tlsCaFile: undefined,
        certsDir: "/nonexistent",
        plainHttpHosts: ["127.0.0.1"],
        environment: {},
        ...means,
      },
      never,
    );
  } catch (error) {
    if (!(error instanceof SystemFailure)) throw error;
    failure = error;
  }
  return { values: values?.map(({ value }) => value), variables: values, failure, hides, hidden: hides.flat(), said };
}
