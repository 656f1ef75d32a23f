/** Types of ssh2's modules that `ciphers.ts` changes; the package describes only its index. */

declare module "ssh2/lib/protocol/crypto.js" {
  export interface CipherInfo {
    readonly sslName: string;
  }
  export interface Outbound {
    readonly seqno: number;
    readonly cipherInfo: CipherInfo;
    readonly cipherKey: Buffer;
    readonly onWrite: (data: Buffer) => void;
  }
  export interface Inbound {
    readonly seqno: number;
    readonly decipherInfo: CipherInfo;
    readonly decipherKey: Buffer;
    readonly onPayload: OnPayload;
  }
  export type OnPayload = (payload: Buffer) => number | false | undefined;
  /** What ssh2 asks of a cipher. It sets `outSeqno` itself where both sides count anew after a key exchange. */
  export interface Cipher {
    outSeqno: number;
    free(): void;
    allocPacket(payloadLength: number): Buffer;
    encrypt(packet: Buffer): void;
  }
  /** ssh2 sets `_onPayload` when a key exchange begins. */
  export interface Decipher {
    inSeqno: number;
    _onPayload: OnPayload;
    free(): void;
    /** @returns where it stopped in `data`, if whoever took a packet wants the rest later */
    decrypt(data: Buffer, from: number, to: number): number | undefined;
  }
  const library: {
    readonly CIPHER_INFO: Readonly<Record<string, CipherInfo>>;
    createCipher: (config: { readonly outbound: Outbound }) => Cipher;
    createDecipher: (config: { readonly inbound: Inbound }) => Decipher;
  };
  export default library;
}

declare module "ssh2/lib/protocol/constants.js" {
  const library: { readonly SUPPORTED_CIPHER: string[] };
  export default library;
}

declare module "bcrypt-pbkdf" {
  const library: {
    /** Fills `key`. @returns 0, or -1 where an argument is out of its bounds */
    pbkdf(
      pass: Uint8Array,
      passBytes: number,
      salt: Uint8Array,
      saltBytes: number,
      key: Uint8Array,
      keyBytes: number,
      rounds: number,
    ): number;
  };
  export default library;
}
