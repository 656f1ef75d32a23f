import type { Board } from "../board/contract.ts";
import type { Tidied } from "../executor/keeping.ts";

/** What whoever has the socket may do with a runner. */
export interface Steering {
  readonly board: Board;
  /** Such as `2.0.0 (1a2b3c4d)`. */
  readonly version: string;
  about(): RunnerFacts;
  /** What the executor of an entry counts at the moment, by the entry's id. */
  figures(runner: string): readonly Figure[];
  /** Takes the ids of the entries' tokens. Running jobs go on. */
  pause(ids: readonly string[] | "all"): void;
  resume(ids: readonly string[] | "all"): void;
  /** Asks for no more jobs, and ends after the last one. */
  drain(): void;
  /** Removes what is kept between jobs beyond its budgets; `dry`: says what would go. */
  tidy(dry: boolean): Promise<readonly Tidied[]>;
  /** Load the configuration now. Resolves once it is in force or refused. */
  reload(): Promise<Reloaded>;
}

/** Such as the machines that idle. */
export interface Figure {
  /** `Machines by what they do.` */
  readonly about: string;
  /** `idle` */
  readonly name: string;
  readonly value: number;
}

export interface RunnerFacts {
  readonly config: string;
  readonly state: "starting" | "running" | "draining" | "stopping";
  readonly concurrent: number;
  /** Whether jobs are kept that may outlive the runner; absent: no entry has such. */
  readonly durable?: boolean;
}

/** Says briefly what is in force now, or why the old configuration stays. */
export type Reloaded = { readonly status: string } | { readonly problem: string };
