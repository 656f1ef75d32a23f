import { randomFillSync } from "node:crypto";
import constants from "ssh2/lib/protocol/constants.js";
import library, { type Cipher, type Decipher, type Inbound, type Outbound } from "ssh2/lib/protocol/crypto.js";
import {
  CHACHA,
  chachaKeys,
  isTagOf,
  LENGTH_BYTES,
  TAG_BYTES,
  tagOf,
  turnBody,
  turnLength,
} from "./chacha20-poly1305.ts";

/**
 * Gives ssh2 the cipher chacha20-poly1305@openssh.com, which it has only where the runtime's OpenSSL has ChaCha20: that of the
 * single binaries has not. ssh2 takes its ciphers when it is loaded, so whoever loads a package that brings it along imports
 * this first.
 */
const { createCipher, createDecipher, CIPHER_INFO } = library;
library.createCipher = (config) =>
  config.outbound.cipherInfo === CIPHER_INFO[CHACHA] ? chachaCipher(config.outbound) : createCipher(config);
library.createDecipher = (config) =>
  config.inbound.decipherInfo === CIPHER_INFO[CHACHA] ? chachaDecipher(config.inbound) : createDecipher(config);
if (!constants.SUPPORTED_CIPHER.includes(CHACHA)) constants.SUPPORTED_CIPHER.push(CHACHA);

/** Bodies are filled up to this, by at least that much (RFC 4253, 6). */
const BLOCK_BYTES = 8;
const LEAST_PADDING_BYTES = 4;

/** As ssh2 has it for its own ciphers. */
const LARGEST_BODY_BYTES = 35_000;

function chachaCipher({ seqno, cipherKey, onWrite }: Outbound): Cipher {
  const keys = chachaKeys(cipherKey);
  let dead = false;
  return {
    outSeqno: seqno,
    free: () => {
      dead = true;
    },
    allocPacket: (payloadBytes) => {
      const unfilled = 1 + payloadBytes + LEAST_PADDING_BYTES;
      const bodyBytes = Math.ceil(unfilled / BLOCK_BYTES) * BLOCK_BYTES;
      const packet = Buffer.allocUnsafe(LENGTH_BYTES + bodyBytes + TAG_BYTES);
      const paddingBytes = bodyBytes - 1 - payloadBytes;
      packet.writeUInt32BE(bodyBytes, 0);
      packet[LENGTH_BYTES] = paddingBytes;
      randomFillSync(packet, LENGTH_BYTES + 1 + payloadBytes, paddingBytes);
      return packet;
    },
    encrypt(packet) {
      if (dead) return;
      const sealed = packet.subarray(0, packet.length - TAG_BYTES);
      turnLength(keys, this.outSeqno, packet.subarray(0, LENGTH_BYTES));
      turnBody(keys, this.outSeqno, sealed.subarray(LENGTH_BYTES));
      packet.set(tagOf(keys, this.outSeqno, sealed), sealed.length);
      onWrite(packet);
      this.outSeqno = (this.outSeqno + 1) >>> 0;
    },
  };
}

function chachaDecipher({ seqno, decipherKey, onPayload }: Inbound): Decipher {
  const keys = chachaKeys(decipherKey);
  const head = Buffer.alloc(LENGTH_BYTES);
  /** Encrypted length, body and tag: a view of `head` until it is known how long the packet is. */
  let packet = head;
  let filled = 0;
  return {
    inSeqno: seqno,
    _onPayload: onPayload,
    free: () => {},
    decrypt(data, from, to) {
      let at = from;
      while (at < to) {
        const taken = data.copy(packet, filled, at, Math.min(to, at + packet.length - filled));
        at += taken;
        filled += taken;
        if (filled < packet.length) return;
        if (packet === head) {
          packet = Buffer.allocUnsafe(LENGTH_BYTES + bodyBytesOf(this.inSeqno) + TAG_BYTES);
          head.copy(packet);
          continue;
        }
        const payload = opened(packet, this.inSeqno);
        packet = head;
        filled = 0;
        this.inSeqno = (this.inSeqno + 1) >>> 0;
        const answer = this._onPayload(payload);
        if (answer !== undefined) return answer === false ? at : answer;
      }
      return;
    },
  };

  function bodyBytesOf(number: number): number {
    const length = Buffer.from(head);
    turnLength(keys, number, length);
    const bytes = length.readUInt32BE();
    if (bytes < BLOCK_BYTES || bytes > LARGEST_BODY_BYTES || bytes % BLOCK_BYTES !== 0) {
      throw new Error("Bad packet length");
    }
    return bytes;
  }

  function opened(whole: Buffer, number: number): Buffer {
    const sealed = whole.subarray(0, whole.length - TAG_BYTES);
    if (!isTagOf(whole.subarray(sealed.length), keys, number, sealed)) throw new Error("Invalid MAC");
    const body = sealed.subarray(LENGTH_BYTES);
    turnBody(keys, number, body);
    return body.subarray(1, body.length - (body[0] ?? 0));
  }
}
