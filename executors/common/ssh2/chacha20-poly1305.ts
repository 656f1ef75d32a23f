import { timingSafeEqual } from "node:crypto";
import { poly1305 } from "@noble/ciphers/_poly1305.js";
import { chacha20orig } from "@noble/ciphers/chacha.js";

/**
 * The cipher chacha20-poly1305@openssh.com, as OpenSSH's PROTOCOL.chacha20poly1305 has it: a packet's length is under a
 * key of its own, the tag is over the encrypted length and body, and the number of the packet is the nonce. Buffers are
 * changed in place.
 */
export const CHACHA = "chacha20-poly1305@openssh.com";
export const TAG_BYTES = 16;
export const LENGTH_BYTES = 4;

export interface ChachaKeys {
  readonly body: Uint8Array;
  readonly length: Uint8Array;
}

/** @param key 64 bytes: the key of bodies, then that of lengths */
export function chachaKeys(key: Buffer): ChachaKeys {
  // Copies, because whoever made the key may write over it.
  return { body: Uint8Array.from(key.subarray(0, 32)), length: Uint8Array.from(key.subarray(32, 64)) };
}

function nonceOf(packet: number): Uint8Array {
  const nonce = Buffer.alloc(8);
  nonce.writeUInt32BE(packet, 4);
  return nonce;
}

/** En- and decrypt the length of packet number `packet`. */
export function turnLength({ length }: ChachaKeys, packet: number, bytes: Uint8Array): void {
  chacha20orig(length, nonceOf(packet), bytes, bytes);
}

/** En- and decrypt the body. The stream's first block is the tag's key. */
export function turnBody({ body }: ChachaKeys, packet: number, bytes: Uint8Array): void {
  chacha20orig(body, nonceOf(packet), bytes, bytes, 1);
}

/** @param sealed encrypted length and body */
export function tagOf({ body }: ChachaKeys, packet: number, sealed: Uint8Array): Uint8Array {
  return poly1305(sealed, chacha20orig(body, nonceOf(packet), new Uint8Array(32)));
}

export function isTagOf(tag: Uint8Array, keys: ChachaKeys, packet: number, sealed: Uint8Array): boolean {
  return timingSafeEqual(tag, tagOf(keys, packet, sealed));
}
