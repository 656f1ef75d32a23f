import { ScriptFailure } from "../../src/errors.ts";

/** What a service can be called by the job's scripts. */

/** A host name as resolvers take it; `_` because names of images become names of hosts with two of them. */
const HOST_NAME = /^[a-zA-Z0-9_](?:[a-zA-Z0-9_.-]{0,251}[a-zA-Z0-9_])?$/;

/** `registry:5000/group/db:11@sha256:…` → `registry__group__db`, `registry-group-db`. */
function namesOfImage(image: string): string[] {
  const plain = image
    .replace(/@.*$/, "")
    .replace(/:[^/]*$/, "")
    .replace(/^([^/]*):\d+\//, "$1/");
  return [...new Set([plain.replaceAll("/", "__"), plain.replaceAll("/", "-")])];
}

interface NamedService {
  /** Position in the list of services. */
  readonly index: number;
  /** Host names, at least one. */
  readonly names: readonly string[];
}

export interface Naming {
  readonly services: readonly NamedService[];
  readonly warnings: readonly string[];
}

/**
 * Host names of all services. The first one that claims a name has it.
 * @param reserved names that must lead where they led before: the coordinator's, for the job's token goes there
 * @throws {ScriptFailure} an alias is no host name, or a reserved one
 */
export function nameServices(
  services: readonly { readonly name: string; readonly aliases: readonly string[] }[],
  reserved: readonly string[],
): Naming {
  const taken = new Map<string, string>();
  const warnings: string[] = [];
  const forbidden = new Set(["localhost", "build", ...reserved].map((name) => name.toLowerCase()));
  const named = services.map(({ name, aliases }, index): NamedService => {
    for (const alias of aliases) {
      if (!HOST_NAME.test(alias)) {
        throw new ScriptFailure(
          `The alias ${JSON.stringify(alias.slice(0, 100))} of the service ${name} is no host name: use letters, digits, "-", "_" and "."`,
        );
      }
      if (forbidden.has(alias.toLowerCase())) {
        throw new ScriptFailure(`The service ${name} cannot have the alias "${alias}": that name has another meaning`);
      }
    }
    const ofImage = namesOfImage(name).filter((host) => HOST_NAME.test(host) && !forbidden.has(host.toLowerCase()));
    const names: string[] = [];
    for (const host of [...ofImage, ...aliases]) {
      const folded = host.toLowerCase();
      const holder = taken.get(folded);
      if (holder === undefined) {
        taken.set(folded, name);
        names.push(host);
      } else if (!names.some((own) => own.toLowerCase() === folded)) {
        warnings.push(`The service ${name} cannot be reached as "${host}": that is the service ${holder} already`);
      }
    }
    if (names.length === 0) warnings.push(`The service ${name} has no name of its own; give it an alias`);
    return { index, names };
  });
  return { services: named, warnings };
}
