import { createHash } from "node:crypto";
import { clausesHold, type PipelineCase } from "../decide/case.ts";
import { expandText, type Lookup } from "../decide/expand.ts";
import { readDocuments } from "../read/document.ts";
import type { Findings } from "../read/findings.ts";
import { at, isNull, type Node, type Place, type Table, textOf } from "../read/node.ts";
import { type GivenInputs, givenInputs, resolveInputs } from "./inputs.ts";
import { interpolate } from "./interpolate.ts";
import { mergeDeep } from "./merge.ts";

/** Something that could be had, or why not. */
export type Found<T> = { readonly found: T } | { readonly problem: string };

/** Files of one project at one commit. */
export interface SourceTree {
  /** In front of a path in messages: empty for the project itself. */
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
  /** @param signal fires when all includes together take too long */
  project(path: string, ref: string | undefined): Promise<Found<SourceTree>>;
  remote(url: string): Promise<Found<string>>;
  template(name: string): Promise<Found<string>>;
  component(address: string): Promise<Found<ComponentFile>>;
}

export interface IncludeOptions {
  readonly sources: IncludeSources;
  readonly around: PipelineCase;
  readonly findings: Findings;
}

const MOST_FILES = 150;
const KINDS = ["local", "project", "remote", "template", "component", "artifact"];

/** A file that was found, before it is read. */
interface IncludedFile {
  readonly text: string;
  readonly name: string;
  /** Where its own local files are; `undefined`: it has none. */
  readonly tree: SourceTree | undefined;
  readonly component: ReadonlyMap<string, string>;
  readonly inputs: GivenInputs;
  readonly place: Place;
}

/**
 * A file with all that it includes merged beneath it: header interpolated, includes resolved, each file complete for itself.
 * @returns `undefined`: it is no CI file; the findings say why
 */
export async function composeFile(
  file: { readonly text: string; readonly name: string; readonly inputs: GivenInputs },
  options: IncludeOptions,
): Promise<Table | undefined> {
  const { sources, around, findings } = options;
  const lookup: Lookup = (name) => around.given.get(name) ?? around.predefined.get(name);
  let files = 0;
  let full = false;

  const compose = async (from: IncludedFile): Promise<Table | undefined> => {
    const documents = readDocuments(from.text, from.name, findings);
    if (documents === undefined) return undefined;
    const { header } = documents;
    if (header === undefined && from.inputs.values.size > 0)
      findings.error(from.inputs.place, `${from.name} takes no inputs: it has no spec:inputs`);
    const inputs = header === undefined ? new Map() : resolveInputs(header, from.inputs, lookup, findings);
    const content =
      header === undefined || findings.errors.length > 0
        ? documents.content
        : interpolate(documents.content, { inputs, component: from.component, lookup }, findings);
    if (content.kind !== "table") {
      findings.error(
        content.place.line > 1 ? content.place : { ...content.place, line: 1 },
        `invalid configuration format: ${from.name} must be a table of jobs${isNull(content) ? ", and it is empty" : ""}`,
      );
      return undefined;
    }
    const include = content.entries.get("include");
    if (include === undefined) return content;
    let beneath: Table | undefined;
    for (const entry of await entriesOf(include.value, from)) {
      const composed = await compose(entry);
      if (composed === undefined) continue;
      const merged: Node = beneath === undefined ? composed : mergeDeep(beneath, composed);
      if (merged.kind === "table") beneath = merged;
    }
    const entries = new Map(content.entries);
    entries.delete("include");
    const own: Table = { ...content, entries };
    const whole = beneath === undefined ? own : mergeDeep(beneath, own);
    return whole.kind === "table" ? whole : own;
  };

  const entriesOf = async (node: Node, from: IncludedFile): Promise<IncludedFile[]> => {
    const items = node.kind === "list" ? node.items : isNull(node) ? [] : [node];
    const found: IncludedFile[] = [];
    for (const item of items) {
      for (const one of await entryOf(item, from)) {
        if (full) return found;
        if (++files > MOST_FILES) {
          full = true;
          findings.error(item.place, `a maximum of ${MOST_FILES} nested includes are allowed`);
          return found;
        }
        found.push(one);
      }
    }
    return found;
  };

  const entryOf = async (item: Node, from: IncludedFile): Promise<IncludedFile[]> => {
    const text = textOf(item);
    if (text !== undefined) {
      const expanded = expandText(text, lookup, "empty");
      return /^https?:\/\//i.test(expanded)
        ? await remote(expanded, item, item.place)
        : await local(expanded, item, from, item.place);
    }
    if (item.kind !== "table") {
      findings.error(
        item.place,
        "an include must be a text, or a table with one of local, project, remote, template, component",
      );
      return [];
    }
    const kinds = KINDS.filter((kind) => item.entries.has(kind));
    const [kind] = kinds;
    if (kind === undefined || kinds.length > 1) {
      findings.error(item.place, `an include needs only one of ${KINDS.join(", ")}`);
      return [];
    }
    if (!ruled(item)) return [];
    const value = at(item, kind);
    const place = value?.place ?? item.place;
    const named = textOf(value);
    if (named === undefined) {
      findings.error(place, `include:${kind} must be a text`);
      return [];
    }
    if (kind === "artifact") {
      findings.error(place, "include:artifact belongs under trigger");
      return [];
    }
    // Wildcards are looked for before variables are put in.
    if (kind === "local") return await local(named, item, from, place);
    const expanded = expandText(named, lookup, "empty");
    if (kind === "project") return await project(expanded, item, place);
    if (kind === "remote") return await remote(expanded, item, place);
    return kind === "template" ? await template(expanded, item, place) : await component(expanded, item, place);
  };

  const ruled = (item: Table): boolean => {
    const rules = at(item, "rules");
    if (rules === undefined || isNull(rules)) return true;
    if (rules.kind !== "list") {
      findings.error(rules.place, "include:rules must be a list of rules");
      return false;
    }
    const nested = rules.items.find((rule) => rule.kind !== "table");
    if (nested !== undefined) {
      findings.error(nested.place, "a rule of include must be a table");
      return false;
    }
    const rule = rules.items.find((one) => clausesHold(one, around, lookup, findings));
    return rule !== undefined && textOf(at(rule, "when")) !== "never";
  };

  const inputsOf = (item: Node, place: Place): GivenInputs => givenInputs(at(item, "inputs"), place);

  const fits = (path: string, place: Place): boolean => {
    if (/[^/.][^/]*\.ya?ml$/i.test(path)) return true;
    findings.error(place, `included file "${path}" does not have YAML extension: it must end in .yml or .yaml`);
    return false;
  };

  const local = async (written: string, item: Node, from: IncludedFile, place: Place): Promise<IncludedFile[]> => {
    const { tree } = from;
    if (tree === undefined) {
      findings.error(
        place,
        `local file "${written}" cannot be included from ${from.name}, which belongs to no project here`,
      );
      return [];
    }
    if (!written.includes("*"))
      return await localFile(expandText(written, lookup, "empty").replace(/^\/+/, ""), item, tree, place);
    const matches = wildcard(written.replace(/^\/+/, ""));
    const paths = (await tree.paths()).filter((path) => matches(path) && `${tree.name}${path}` !== from.name);
    const found: IncludedFile[] = [];
    for (const path of paths) found.push(...(await localFile(path, item, tree, place)));
    return found;
  };
  const localFile = async (path: string, item: Node, tree: SourceTree, place: Place): Promise<IncludedFile[]> => {
    if (!fits(path, place)) return [];
    const text = await tree.read(path);
    if (text === undefined || text.trim() === "") {
      const what = text === undefined ? "does not exist" : "is empty";
      findings.error(place, `local file "${tree.name}${path}" ${what}`);
      return [];
    }
    return [{ text, name: `${tree.name}${path}`, tree, component: new Map(), inputs: inputsOf(item, place), place }];
  };
  const project = async (path: string, item: Node, place: Place): Promise<IncludedFile[]> => {
    const file = at(item, "file");
    const names = file?.kind === "list" ? file.items : file === undefined ? [] : [file];
    if (names.length === 0) {
      findings.error(place, "include:project needs file: the path of a file there, or a list of paths");
      return [];
    }
    const ref = textOf(at(item, "ref"));
    const found = await sources.project(
      path.toLowerCase(),
      ref === undefined ? undefined : expandText(ref, lookup, "empty"),
    );
    if ("problem" in found) {
      findings.error(place, `project "${path}" ${found.problem}`);
      return [];
    }
    const files: IncludedFile[] = [];
    for (const name of names) {
      const text = textOf(name);
      if (text === undefined) findings.error(name.place, "include:file must be a text, or a list of texts");
      else
        files.push(
          ...(await localFile(expandText(text, lookup, "empty").replace(/^\/+/, ""), item, found.found, name.place)),
        );
    }
    return files;
  };
  const away = (name: string, found: Found<string>, item: Node, place: Place): IncludedFile[] => {
    if ("problem" in found) {
      findings.error(place, `${name} ${found.problem}`);
      return [];
    }
    const integrity = textOf(at(item, "integrity"));
    if (
      integrity !== undefined &&
      integrity !== `sha256-${createHash("sha256").update(found.found).digest("base64")}`
    ) {
      findings.error(place, `${name}: its content does not fit integrity`);
      return [];
    }
    const text = found.found;
    if (text.trim() === "") findings.error(place, `${name} is empty`);
    return text.trim() === ""
      ? []
      : [{ text, name, tree: undefined, component: new Map(), inputs: inputsOf(item, place), place }];
  };
  const remote = async (url: string, item: Node, place: Place): Promise<IncludedFile[]> => {
    if (!/^https?:\/\/[^/]/i.test(url)) {
      findings.error(place, `remote file "${url}" does not have a valid address: it begins with http:// or https://`);
      return [];
    }
    const path = url.replace(/[?#].*$/, "");
    return fits(path, place) ? away(url, await sources.remote(url), item, place) : [];
  };
  const template = async (name: string, item: Node, place: Place): Promise<IncludedFile[]> => {
    if (!name.endsWith(".gitlab-ci.yml")) {
      findings.error(place, `template "${name}" must end in .gitlab-ci.yml`);
      return [];
    }
    return away(`template ${name}`, await sources.template(name), item, place);
  };
  const component = async (address: string, item: Node, place: Place): Promise<IncludedFile[]> => {
    const found = await sources.component(address);
    if ("problem" in found) {
      findings.error(place, `component "${address}" ${found.problem}`);
      return [];
    }
    const { tree, path, text, values } = found.found;
    return [{ text, name: `${tree.name}${path}`, tree, component: values, inputs: inputsOf(item, place), place }];
  };

  return await compose({
    ...file,
    tree: sources.own,
    component: new Map(),
    place: file.inputs.place,
  });
}

/** `*` in a path of a local include: its own rules, under which `**` takes any folders. */
function wildcard(pattern: string): (path: string) => boolean {
  const source = pattern.replace(/\*\*\/|\*\*|\*|[\\^$.+?()[\]{}|]/g, (found) => {
    if (found === "**/") return "(?:.*/)?";
    if (found === "**") return ".*";
    return found === "*" ? "[^/]*" : `\\${found}`;
  });
  const expression = new RegExp(`^${source}$`, "su");
  return (path) => expression.test(path) && /\.ya?ml$/i.test(path);
}
