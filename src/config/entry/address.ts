import { expandVariables } from "../expand.ts";

type Variables = Readonly<Record<string, string | undefined>>;

function expand(key: string, text: string, env: Variables, problem: (text: string) => void): string | null {
  const { text: expanded, missing } = expandVariables(text, env);
  if (missing.length === 0) return expanded.trim();
  const names = missing.map((name) => `$${name}`).join(", ");
  problem(`${names} is not set in the runner's environment. Set it, or write the ${key} itself ("$$" stands for "$")`);
  return null;
}

/** The coordinator's address; the path is kept as written. */
export function readUrl(text: string, env: Variables, problem: (text: string) => void): URL | null {
  const expanded = expand("url", text, env, problem);
  if (expanded === null) return null;
  const example = "Expected an address such as https://alloy.example.com";
  const shown = JSON.stringify(expanded.replace(/\/\/[^/]*@/, "//…@").slice(0, 100));
  if (expanded === "") problem(`is empty. ${example}`);
  else if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(expanded)) {
    problem(`${shown} has no scheme. ${example}, with http:// or https:// in front`);
  } else if (!/^https?:/i.test(expanded)) problem(`${shown} is neither http nor https. ${example}`);
  else if (!URL.canParse(expanded)) problem(`${shown} is not a valid address. ${example}`);
  else return new URL(expanded);
  return null;
}

export function readToken(text: string, env: Variables, problem: (text: string) => void): string | null {
  const token = expand("token", text, env, problem);
  if (token === null) return null;
  if (token === "") problem("is empty. Put the runner's token here, or remove the entry");
  // A header cannot carry it, and the coordinator has never given out such a token.
  else if (!/^[\x21-\x7e]+$/.test(token)) problem("holds blanks or other characters that no token has. Copy it again");
  else return token;
  return null;
}
