/** Something that could be had, or why not. */
export type Found<T> = { readonly found: T } | { readonly problem: string };

/** Files of one project at one commit. */
export interface SourceTree {
  /** Stands before a path in messages; empty for the project itself. */
  readonly name: string;
  read(path: string): Promise<string | undefined>;
  /** All files, sorted. */
  paths(): Promise<readonly string[]>;
}

export interface ComponentFile {
  readonly tree: SourceTree;
  readonly path: string;
  readonly text: string;
  /** `name`, `sha`, `version`, `reference`. */
  readonly values: ReadonlyMap<string, string>;
}

/** Where included files come from. */
export interface IncludeSources {
  readonly own: SourceTree;
  project(path: string, ref: string | undefined): Promise<Found<SourceTree>>;
  remote(url: string): Promise<Found<string>>;
  template(name: string): Promise<Found<string>>;
  component(address: string): Promise<Found<ComponentFile>>;
  /** A file that an earlier job of the parent pipeline has uploaded; only child pipelines have these. */
  artifact?(job: string, path: string): Promise<Found<string>>;
}
