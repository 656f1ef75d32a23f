/** As much of DER as a certificate takes: each value is a tag, a length and its contents. */

function value(tag: number, contents: Uint8Array): Buffer {
  const { length } = contents;
  const long = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...long]), contents]);
}

export const sequence = (...parts: readonly Uint8Array[]): Buffer => value(0x30, Buffer.concat(parts));
export const set = (...parts: readonly Uint8Array[]): Buffer => value(0x31, Buffer.concat(parts));
export const octets = (contents: Uint8Array): Buffer => value(0x04, contents);
/** Of whole bytes, or without the last `unused` bits. */
export const bits = (contents: Uint8Array, unused = 0): Buffer =>
  value(0x03, Buffer.concat([Buffer.from([unused]), contents]));
export const text = (contents: string): Buffer => value(0x0c, Buffer.from(contents));
export const yes: Buffer = value(0x01, Buffer.from([0xff]));

/** Not negative: a first bit that is set gets a byte of zeros before it. */
export function integer(bytes: Uint8Array): Buffer {
  const first = bytes.findIndex((byte) => byte !== 0);
  const least = first < 0 ? Buffer.from([0]) : Buffer.from(bytes.subarray(first));
  return value(0x02, (least[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), least]) : least);
}

/** `[number]` of a structure; one that is no structure holds its contents bare. */
export const tagged = (number: number, contents: Uint8Array): Buffer => value(0xa0 | number, contents);
export const bare = (number: number, contents: Uint8Array): Buffer => value(0x80 | number, contents);

/** `2.5.29.17` */
export function identifier(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const encoded = rest.flatMap((part) => {
    const groups = [part & 0x7f];
    for (let left = part >> 7; left > 0; left >>= 7) groups.unshift((left & 0x7f) | 0x80);
    return groups;
  });
  return value(0x06, Buffer.from([first * 40 + second, ...encoded]));
}

/** To the second; with two digits of the year up to 2049, as certificates want it. */
export function time(at: Date): Buffer {
  const digits = at.toISOString().replace(/\.\d+|[-:T]/g, "");
  return at.getUTCFullYear() < 2050 ? value(0x17, Buffer.from(digits.slice(2))) : value(0x18, Buffer.from(digits));
}
