/** The look of a piece of a trace, as terminals have it. Classes of `page.css`, or colours of its own. */
export interface Look {
  readonly bold: boolean;
  readonly dim: boolean;
  readonly italic: boolean;
  readonly underline: boolean;
  readonly struck: boolean;
  readonly inverse: boolean;
  /** 0–15: one of the theme's; a text: `#rrggbb`; null: the usual one. */
  readonly ink: number | string | null;
  readonly paper: number | string | null;
}

export const PLAIN: Look = {
  bold: false,
  dim: false,
  italic: false,
  underline: false,
  struck: false,
  inverse: false,
  ink: null,
  paper: null,
};

/**
 * A look after the parameters of `ESC [ … m`. Written by hand: the libraries for it forget the look at the end of a line or
 * give HTML as text, which this page's policy refuses.
 */
export function withCodes(look: Look, parameters: string): Look {
  const codes = parameters.split(/[;:]/).map((code) => (code === "" ? 0 : Number(code)));
  let next = look;
  for (let at = 0; at < codes.length; at++) {
    const code = codes[at] ?? 0;
    if (code === 38 || code === 48) {
      const [color, length] = extended(codes, at + 1);
      at += length;
      if (color !== undefined) next = { ...next, [code === 38 ? "ink" : "paper"]: color };
    } else next = { ...next, ...changeOf(code) };
  }
  return next;
}

function changeOf(code: number): Partial<Look> {
  const simple = SIMPLE[code];
  if (simple !== undefined) return simple;
  if (code >= 30 && code <= 37) return { ink: code - 30 };
  if (code >= 40 && code <= 47) return { paper: code - 40 };
  if (code >= 90 && code <= 97) return { ink: code - 82 };
  if (code >= 100 && code <= 107) return { paper: code - 92 };
  return {};
}

const SIMPLE: Readonly<Record<number, Partial<Look>>> = {
  0: PLAIN,
  1: { bold: true },
  2: { dim: true },
  3: { italic: true },
  4: { underline: true },
  7: { inverse: true },
  9: { struck: true },
  21: { underline: true },
  22: { bold: false, dim: false },
  23: { italic: false },
  24: { underline: false },
  27: { inverse: false },
  29: { struck: false },
  39: { ink: null },
  49: { paper: null },
};

/** `5;N` or `2;R;G;B`. @returns the colour, and how many codes it took */
function extended(codes: readonly number[], at: number): [color: Look["ink"] | undefined, length: number] {
  const [kind, ...rest] = codes.slice(at, at + 4);
  const [first, second, third] = rest.map((value) => Math.min(255, Math.max(0, Math.trunc(value) || 0)));
  if (kind === 2 && first !== undefined && second !== undefined && third !== undefined)
    return [hex(first, second, third), 4];
  if (kind !== 5 || first === undefined) return [undefined, 1];
  if (first < 16) return [first, 2];
  if (first >= 232) return [hex(...gray(8 + (first - 232) * 10)), 2];
  const cube = first - 16;
  const level = (step: number): number => (step === 0 ? 0 : 55 + step * 40);
  return [hex(level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6)), 2];
}

function gray(value: number): [number, number, number] {
  return [value, value, value];
}

function hex(...parts: [number, number, number]): string {
  return `#${parts.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}
