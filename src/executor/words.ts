/** A value of a `[[runners]]` entry as it is written to config.toml; keys that are `undefined` are left out. */
export type EntryValue = string | number | boolean | Date | readonly EntryValue[] | EntryTable;
export interface EntryTable {
  readonly [key: string]: EntryValue | undefined;
}

/** One flag of `register`, `run-single` and `exec` that fills a key of a `[[runners]]` entry. */
export interface EntryFlag {
  /** Long name without dashes: `docker-image`. */
  readonly flag: string;
  readonly env?: string;
  /** A name of the variable from before, which counts where the newer one is not set. */
  readonly olderEnv?: string;
  /** Where it stands; with a dot, in a table below the entry: `docker.image`. */
  readonly key: string;
  /** `lists` is a table of lists. */
  readonly kind: "text" | "integer" | "list" | "boolean" | "table" | "lists" | "switches";
  readonly help: string;
}

/** What `register` asks a person who chose the executor; the answer counts as if it had been given by the flag. */
export interface EntryQuestion {
  readonly flag: string;
  readonly message: string;
  readonly required?: boolean;
  /** Not echoed. */
  readonly secret?: boolean;
}

/**
 * What an executor is called and what people can say about it: data alone, in a module that imports nothing heavy, because
 * command lines and `--help` need that of all executors, whichever are used.
 */
export interface ExecutorWords {
  /** As in config.toml: `docker-ssh`. */
  readonly name: string;
  /** As people write it: `Docker-SSH`. */
  readonly title: string;
  /** Executors whose flags and tables are this one's, too, and theirs in turn. */
  readonly builtOn: readonly string[];
  /** Its jobs' files lie in directories of this machine, below `builds_dir`. */
  readonly worksOnThisMachine: boolean;
  /** Its own flags; those of the executors that it is built on need no second mention. */
  readonly flags: readonly EntryFlag[];
  /** Asked in this order. They name flags of its own or of an executor that it is built on. */
  readonly questions: readonly EntryQuestion[];
  /**
   * Tables below `[[runners]]` → the keys that other runners of the family have there, separated by blanks, lower case.
   * Those that have an effect here may be among them. For warnings that tell a foreign key from a misspelt one.
   */
  readonly foreignKeys: Readonly<Record<string, string>>;
  /** A new entry as `register` saves it: with what has always been added to what the flags say. */
  completeEntry?(entry: EntryTable): EntryTable;
}

export function isEntryTable(value: EntryValue | undefined): value is EntryTable {
  return typeof value === "object" && !Array.isArray(value) && !(value instanceof Date);
}
