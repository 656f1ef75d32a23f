import { globExpression } from "./name-glob.ts";
import { DOCKER_HUB, type ImageReference, parseReference } from "./reference.ts";

/**
 * Which images a job may name. Patterns are globs over names: `*` stays within one part of a path, `**` does not. A pattern
 * that begins with `!` forbids, whatever the others allow.
 *
 * A name is read as Docker reads it and matches when any spelling of the same image does: `docker.io/library/ruby:2.1` is
 * what `ruby:*` allows, and `ruby` is `ruby:latest`. With a digest the tag means nothing to Docker and nothing here: only a
 * pattern that leaves the tag open (`ruby:*`, `team/*`) allows `ruby@sha256:…`.
 */
interface ImageRules {
  /** Empty: everything is allowed. */
  readonly patterns: readonly string[];
  /** Names that are always allowed: what the operator configured himself. */
  readonly always: readonly string[];
}

/** Whether `name`, expanded, may be used. */
export function isAllowed(name: string, { patterns, always }: ImageRules): boolean {
  const reference = parseReference(name);
  if (always.some((each) => isSame(each, name, reference))) return true;
  const forbidden = patterns.filter((pattern) => pattern.startsWith("!")).map((pattern) => pattern.slice(1));
  const allowed = patterns.filter((pattern) => !pattern.startsWith("!"));
  if (reference === null) {
    // An id says nothing about where the image is from.
    return forbidden.length === 0 && (allowed.length === 0 || allowed.some((each) => each === "**" || each === name));
  }
  const names = spellings(reference);
  if (forbidden.some((pattern) => matches(pattern, names) || matches(`${pattern}:*`, names))) return false;
  return allowed.length === 0 || allowed.some((pattern) => matches(pattern, names));
}

/** Whether any of `patterns` names this image; an empty list names none. */
export function matchesAny(name: string, patterns: readonly string[]): boolean {
  return patterns.length > 0 && isAllowed(name, { patterns, always: [] });
}

interface Spellings {
  readonly whole: readonly string[];
  /** Without tag and digest; only where there is a digest. */
  readonly bases: readonly string[];
}

function matches(pattern: string, { whole, bases }: Spellings): boolean {
  const glob = globExpression(pattern);
  if (whole.some((name) => glob.test(name))) return true;
  if (bases.length === 0 || !pattern.endsWith(":*")) return false;
  const open = globExpression(pattern.slice(0, -":*".length));
  return bases.some((name) => open.test(name));
}

function spellings({ registry, repository, tag, digest }: ImageReference): Spellings {
  const bases = [`${registry}/${repository}`];
  if (registry === DOCKER_HUB) {
    const short = repository.replace(/^library\/(?=[^/]+$)/, "");
    bases.push(repository, short, `index.${registry}/${repository}`, `${registry}/${short}`);
  }
  if (digest !== null) return { whole: bases.map((base) => `${base}@${digest}`), bases };
  const ends = tag === "latest" ? [":latest", ""] : [`:${tag}`];
  return { whole: bases.flatMap((base) => ends.map((end) => base + end)), bases: [] };
}

function isSame(configured: string, name: string, reference: ImageReference | null): boolean {
  if (configured === name) return true;
  const other = parseReference(configured);
  if (other === null || reference === null) return false;
  if (other.registry !== reference.registry || other.repository !== reference.repository) return false;
  return other.digest === reference.digest && (reference.digest !== null || other.tag === reference.tag);
}
