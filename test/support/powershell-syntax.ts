import { createRequire } from "node:module";
import { Language, type Node, Parser } from "web-tree-sitter";

const require = createRequire(import.meta.url);

/** Checks a text with PowerShell's grammar: its errors, and the values of its single-quoted words. */
export interface PowerShellSyntax {
  /** Kind and beginning of each syntax error. */
  errors(text: string): string[];
  /** Values of all single-quoted words, in order. */
  literals(text: string): string[];
}

export async function openPowerShellSyntax(): Promise<PowerShellSyntax> {
  await Parser.init();
  const parser = new Parser();
  parser.setLanguage(await Language.load(require.resolve("tree-sitter-powershell/tree-sitter-powershell.wasm")));
  const visit = (text: string, see: (node: Node) => void): void => {
    const tree = parser.parse(text);
    if (tree === null) throw new Error("the text could not be parsed");
    const walk = (node: Node): void => {
      see(node);
      for (const child of node.children) if (child !== null) walk(child);
    };
    walk(tree.rootNode);
    tree.delete();
  };
  return {
    errors: (text) => {
      const found: string[] = [];
      visit(text, (node) => {
        if (node.isError || node.isMissing) found.push(`${node.type}: ${node.text.slice(0, 100)}`);
      });
      return found;
    },
    literals: (text) => {
      const found: string[] = [];
      visit(text, (node) => {
        if (node.type === "verbatim_string_characters") found.push(decode(node.text));
      });
      return found;
    },
  };
}

/**
 * Decodes as PowerShell's own tokenizer does: any of five characters is a single quote, and two in a row stand for the
 * second of them.
 */
function decode(word: string): string {
  const isQuote = (sign: string | undefined): boolean => sign !== undefined && /['\u2018-\u201b]/.test(sign);
  if (!isQuote(word[0])) throw new Error(`no quote begins ${word}`);
  let value = "";
  for (let at = 1; at < word.length; at++) {
    if (!isQuote(word[at])) value += word[at];
    else if (at === word.length - 1) return value;
    else if (isQuote(word[at + 1])) value += word[++at];
    else break;
  }
  throw new Error(`the quotes of ${word} do not match`);
}
