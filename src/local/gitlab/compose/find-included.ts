import { createHash } from "node:crypto";
import { clausesHold, type PipelineCase } from "../decide/case.ts";
import { expandText, type Lookup } from "../decide/expand.ts";
import { compile } from "../decide/regex.ts";
import type { Findings } from "../read/findings.ts";
import { at, isNull, type Node, type Place, type Table, textOf } from "../read/node.ts";
import type { Found, IncludeSources, SourceTree } from "./include-sources.ts";
import { type GivenInputs, givenInputs } from "./inputs.ts";

export interface IncludeOptions {
  readonly sources: IncludeSources;
  readonly around: PipelineCase;
  readonly findings: Findings;
}

export const INCLUDE_KINDS = ["local", "project", "remote", "template", "component", "artifact"];

/** A file that was found, before it is read. */
export interface IncludedFile {
  readonly text: string;
  readonly name: string;
  /** Where its own local files are; `undefined`: it has none. */
  readonly tree: SourceTree | undefined;
  readonly component: ReadonlyMap<string, string>;
  readonly inputs: GivenInputs;
  readonly place: Place;
}

/** What an entry of `include` stands for, in a file that was found itself; the findings say why it is nothing. */
export type FindIncluded = (entry: Node, from: IncludedFile) => Promise<readonly IncludedFile[]>;

export function createFinder({ sources, around, findings }: IncludeOptions, lookup: Lookup): FindIncluded {
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
    const kinds = INCLUDE_KINDS.filter((kind) => item.entries.has(kind));
    const [kind] = kinds;
    if (kind === undefined || kinds.length > 1) {
      findings.error(item.place, `an include needs only one of ${INCLUDE_KINDS.join(", ")}`);
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
    // Wildcards are looked for before variables are put in.
    if (kind === "local") return await local(named, item, from, place);
    const expanded = expandText(named, lookup, "empty");
    if (kind === "project") return await project(expanded, item, place);
    if (kind === "remote") return await remote(expanded, item, place);
    if (kind === "artifact") return await artifact(expanded, item, place);
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
  const artifact = async (path: string, item: Node, place: Place): Promise<IncludedFile[]> => {
    const job = textOf(at(item, "job"));
    if (sources.artifact === undefined) findings.error(place, "include:artifact belongs under trigger");
    else if (job === undefined) findings.error(place, "include:artifact needs job: the job that uploads the file");
    else if (fits(path, place)) {
      const found = away(`${path} of the job ${job}`, await sources.artifact(job, path), item, place);
      // The project's files can be included from it, as from a file of the project.
      return found.map((file) => ({ ...file, tree: sources.own }));
    }
    return [];
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

  return entryOf;
}

/** `*` in a path of a local include: its own rules, under which `**` takes any folders. */
function wildcard(pattern: string): (path: string) => boolean {
  const source = pattern.replace(/\*\*\/|\*\*|\*|[\\^$.+?()[\]{}|]/g, (found) => {
    if (found === "**/") return "(?:.*/)?";
    if (found === "**") return ".*";
    return found === "*" ? "[^/]*" : `\\${found}`;
  });
  const expression = compile(`^${source}$`, "s");
  return (path) => expression?.matches(path) === true && /\.ya?ml$/i.test(path);
}
