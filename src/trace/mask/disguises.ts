/**
 * The forms in which a secret shows up in output: as it is, line by line, and in the usual disguises of tools that quote,
 * escape or encode. Best effort: a job that wants to show its own secret always finds a form that is not here.
 */

/** Shorter values are left alone: masking them would blacken ordinary text and tell more than it hides. */
const MIN_SECRET_BYTES = 6;

/** A value with more lines gets its lines masked as they are, without their disguises: the patterns would be too many. */
const MAX_DISGUISED_LINES = 200;

/** A longer value is masked as it is and line by line. */
export const LONGEST_DISGUISED = 64 * 1024;
/** From so many forms on, and from so much text, nothing more is disguised. */
const MOST_FORMS = 30_000;
const MOST_DISGUISED_CHARACTERS = 512 * 1024;

/** Column widths at which `base64`, PEM writers and MIME break their output. */
const WRAP_COLUMNS = [76, 64] as const;

const PEM_BORDER = /^-----(?:BEGIN|END) [A-Z0-9 ]+-----$/;

/**
 * All byte strings to look for. Values of less than 6 bytes are skipped, and so are the first and last lines of PEM
 * blocks by themselves: `-----BEGIN CERTIFICATE-----` is no secret. First come all values and lines as they are; what is too
 * long, or comes when there are very many forms already, has no disguises.
 */
export function secretForms(secrets: Iterable<string>): Buffer[] {
  const forms = new Set<string>();
  const add = (form: string): void => {
    if (form.length >= MIN_SECRET_BYTES || Buffer.byteLength(form) >= MIN_SECRET_BYTES) forms.add(form);
  };
  const disguised: string[] = [];
  /** Most files end with a line break, and it takes part in their base64. */
  const endings: string[] = [];
  for (const secret of new Set(secrets)) {
    // Lone surrogates become U+FFFD here, as they do on their way into a job's environment.
    const whole = withoutLineEnds(secret.toWellFormed());
    if (Buffer.byteLength(whole.trim()) < MIN_SECRET_BYTES) continue;
    const short = whole.length <= LONGEST_DISGUISED;
    for (const value of new Set([whole, whole.trim()])) {
      add(value);
      if (short) disguised.push(value);
    }
    const lines = whole.split(/\r\n|\n|\r/);
    if (lines.length === 1) continue;
    for (const ending of ["\n", "\r\n", "\r"]) {
      const rejoined = lines.join(ending);
      add(rejoined);
      if (!short) continue;
      disguised.push(rejoined);
      endings.push(rejoined + ending);
    }
    for (const line of lines) {
      const bare = line.trim();
      if (Buffer.byteLength(bare) < MIN_SECRET_BYTES || PEM_BORDER.test(bare)) continue;
      add(line);
      add(bare);
      if (lines.length <= MAX_DISGUISED_LINES && bare.length <= LONGEST_DISGUISED) disguised.push(bare);
    }
  }
  let characters = 0;
  const room = (text: string): boolean => {
    characters += text.length;
    return forms.size < MOST_FORMS && characters <= MOST_DISGUISED_CHARACTERS;
  };
  for (const value of disguised) if (room(value)) disguise(value, add);
  for (const text of endings) if (room(text)) base64Forms(Buffer.from(text), add);
  return Array.from(forms, (form) => Buffer.from(form));
}

/** A pattern for this would take time by the square of the number of line ends inside. */
function withoutLineEnds(text: string): string {
  const isEnd = (at: number): boolean => text[at] === "\n" || text[at] === "\r";
  let [from, to] = [0, text.length];
  while (from < to && isEnd(from)) from++;
  while (to > from && isEnd(to - 1)) to--;
  return text.slice(from, to);
}

function disguise(value: string, add: (form: string) => void): void {
  const bytes = Buffer.from(value);
  base64Forms(bytes, add);
  // The tail of `user:secret`, as in an Authorization header or a `.dockerconfigjson`.
  base64Forms(Buffer.concat([Buffer.from(":"), bytes]), add);
  urlForms(bytes, add);
  jsonForms(value, add);
  shellForms(value, add);
}

/**
 * `bytes` within base64 text, wherever its first byte falls in a group of three. Characters that also depend on what
 * stands before it are left out; the last one that also depends on what follows is there as if nothing followed.
 */
function base64Forms(bytes: Buffer, add: (form: string) => void): void {
  const both = (form: string): void => {
    add(form);
    if (/[+/]/.test(form)) add(form.replaceAll("+", "-").replaceAll("/", "_"));
  };
  for (const before of [0, 1, 2] as const) {
    const padded = Buffer.concat([Buffer.alloc(before), bytes]).toString("base64");
    const from = before === 0 ? 0 : before + 1;
    const decided = Math.floor(((before + bytes.length) * 8) / 6);
    both(padded.slice(from, decided));
    if (padded.endsWith("=")) {
      both(padded.slice(from).replaceAll("=", ""));
      both(padded.slice(from));
    }
    if (before > 0) continue;
    for (const columns of WRAP_COLUMNS) {
      for (let at = 0; padded.length > columns && at < padded.length; at += columns) {
        both(padded.slice(at, Math.min(at + columns, decided)));
        both(padded.slice(at, at + columns));
      }
    }
  }
}

/** Bytes that stay as they are in a URL, by who encodes: RFC 3986, encodeURIComponent, path writers, encodeURI, user info. */
const URL_SAFE = ["-_.~", "-_.~!'()*", "-_.~/", "-_.~!'()*;,/?:@&=+$#", "-_.~$&+,;=", "-_.*"] as const;

function urlForms(bytes: Buffer, add: (form: string) => void): void {
  const text = bytes.toString("latin1");
  if (!/[^A-Za-z0-9]/.test(text)) return;
  for (const safe of URL_SAFE) {
    const encoded = percentEncode(text, safe);
    for (const form of [encoded, encoded.replaceAll("%20", "+")]) {
      add(form);
      add(form.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase()));
    }
  }
}

function percentEncode(latin1: string, safe: string): string {
  return latin1.replace(/[^A-Za-z0-9]/g, (character) =>
    safe.includes(character) ? character : `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
  );
}

/** As JSON.stringify, PHP (`\/`), Go and Ruby on Rails (`\u003c`), Python (ASCII only) write it. */
function jsonForms(value: string, add: (form: string) => void): void {
  const plain = JSON.stringify(value).slice(1, -1);
  const html = plain.replace(/[<>&]/g, unicodeEscape);
  for (const form of [plain, html, plain.replaceAll("/", "\\/"), html.replaceAll("/", "\\/")]) {
    add(form);
    const ascii = form.replace(/[\u007f-\uffff]/g, unicodeEscape);
    if (ascii !== form) {
      add(ascii);
      add(ascii.replace(/\\u[0-9a-f]{4}/g, (code) => `\\u${code.slice(2).toUpperCase()}`));
    }
  }
}

function unicodeEscape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

/** As shells write it: in '…' (`'\''`, `'"'"'`, PowerShell's `''`), in "…", in $'…', and by backslashes (`printf %q`). */
function shellForms(value: string, add: (form: string) => void): void {
  for (const quote of ["'\\''", "'\"'\"'", "''"]) add(value.replaceAll("'", quote));
  add(value.replace(/["$`\\]/g, "\\$&"));
  add(value.replace(/["$`\\!]/g, "\\$&"));
  // bash quotes `~` and `#` only where they could mean something.
  const backslashed = value.replace(/[ \t!"$&'()*,;<>?[\\\]^`{|}]/g, "\\$&");
  add(backslashed);
  add(backslashed.replace(/^[~#]/, "\\$&").replace(/([:=])~/g, "$1\\~"));
  add(ansiQuoted(value, (code) => `\\${code.toString(8).padStart(3, "0")}`));
  add(ansiQuoted(value, (code) => `\\x${code.toString(16).padStart(2, "0")}`));
}

const ANSI_NAMES: Readonly<Record<string, string>> = {
  "\x07": "\\a",
  "\b": "\\b",
  "\t": "\\t",
  "\n": "\\n",
  "\v": "\\v",
  "\f": "\\f",
  "\r": "\\r",
  "\x1b": "\\E",
};

function ansiQuoted(value: string, other: (code: number) => string): string {
  return value
    .replace(/[\\']/g, "\\$&")
    .replace(/[\x00-\x1f\x7f]/g, (character) => ANSI_NAMES[character] ?? other(character.charCodeAt(0)));
}
