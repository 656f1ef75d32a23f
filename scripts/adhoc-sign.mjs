// Ad-hoc code signatures for macOS programs, without a Mac. Layout: xnu's osfmk/kern/cs_blobs.h and mach-o/loader.h.
import { createHash } from "node:crypto";

const MAGIC_64 = 0xfeedfacf;
const LC_SEGMENT_64 = 0x19;
const LC_CODE_SIGNATURE = 0x1d;
const MH_EXECUTE = 2;
const SUPER_BLOB = 0xfade0cc0;
const CODE_DIRECTORY = 0xfade0c02;
const ADHOC_LINKER_SIGNED = 0x20002;
const PAGE = 4096;
const SEGMENT_PAGE = 0x4000;
const DIRECTORY_HEADER = 88;

/**
 * Signs a thin 64-bit Mach-O anew, whatever signature it had: macOS ends a program at once when a page's hash is wrong.
 * @param program the whole file
 * @param identifier the name in the signature
 * @returns the signed file
 */
export function adhocSign(program, identifier) {
  const image = Buffer.from(program);
  const layout = layoutOf(image);
  if (layout.linkEdit === null) throw new Error("no __LINKEDIT segment");
  let { signature } = layout;
  const linkStart = Number(image.readBigUInt64LE(layout.linkEdit + 40));
  let end;
  if (signature === null) {
    // The load command goes into the padding behind the header.
    signature = 32 + layout.commandBytes;
    if (signature + 16 > layout.firstSection) throw new Error("no room for a signature's load command");
    end = linkStart + Number(image.readBigUInt64LE(layout.linkEdit + 48));
    image.writeUInt32LE(LC_CODE_SIGNATURE, signature);
    image.writeUInt32LE(16, signature + 4);
    image.writeUInt32LE(layout.commands + 1, 16);
    image.writeUInt32LE(layout.commandBytes + 16, 20);
  } else {
    end = image.readUInt32LE(signature + 8);
  }
  end = align(end, 16);

  const name = Buffer.from(`${identifier}\0`, "latin1");
  const pages = Math.ceil(end / PAGE);
  const hashes = DIRECTORY_HEADER + name.length;
  const directoryBytes = hashes + 32 * pages;
  const size = align(20 + directoryBytes, 16);
  image.writeUInt32LE(end, signature + 8);
  image.writeUInt32LE(size, signature + 12);
  const linkBytes = end + size - linkStart;
  image.writeBigUInt64LE(BigInt(linkBytes), layout.linkEdit + 48);
  image.writeBigUInt64LE(BigInt(align(linkBytes, SEGMENT_PAGE)), layout.linkEdit + 32);

  const code = Buffer.alloc(end);
  image.copy(code, 0, 0, Math.min(end, image.length));
  const blob = Buffer.alloc(size);
  // A super blob with one entry, the code directory.
  writeWords(blob, 0, [SUPER_BLOB, 20 + directoryBytes, 1, 0, 20]);
  writeWords(blob, 20, [CODE_DIRECTORY, directoryBytes, 0x20400, ADHOC_LINKER_SIGNED, hashes, DIRECTORY_HEADER]);
  writeWords(blob, 44, [0, pages, end]);
  blob.set([32, 2, 0, 12], 56); // hash size, SHA-256, platform, log2 of the page size
  blob.writeBigUInt64BE(layout.textOffset, 84);
  blob.writeBigUInt64BE(layout.textBytes, 92);
  blob.writeBigUInt64BE(layout.fileType === MH_EXECUTE ? 1n : 0n, 100);
  name.copy(blob, 20 + DIRECTORY_HEADER);
  for (let page = 0; page < pages; page++) pageHash(code, page, end).copy(blob, 20 + hashes + 32 * page);
  return Buffer.concat([code, blob]);
}

/**
 * Checks each page of a signed program as the kernel does.
 * @returns how many pages were checked and how many of them are wrong
 */
export function checkSignature(program) {
  const { signature } = layoutOf(program);
  if (signature === null) throw new Error("not signed");
  const start = program.readUInt32LE(signature + 8);
  const blob = program.subarray(start, start + program.readUInt32LE(signature + 12));
  if (blob.length < 20 || blob.readUInt32BE(0) !== SUPER_BLOB) throw new Error("no signature where it should be");
  for (let entry = 0; entry < blob.readUInt32BE(8); entry++) {
    const directory = blob.subarray(blob.readUInt32BE(12 + 8 * entry + 4));
    if (directory.readUInt32BE(0) !== CODE_DIRECTORY || directory[37] !== 2) continue;
    const hashes = directory.readUInt32BE(16);
    const pages = directory.readUInt32BE(28);
    const limit = directory.readUInt32BE(32);
    if (directory[39] !== 12) throw new Error("pages of an unexpected size");
    let wrong = limit === start ? 0 : 1;
    for (let page = 0; page < pages; page++) {
      const expected = directory.subarray(hashes + 32 * page, hashes + 32 * (page + 1));
      if (!pageHash(program, page, limit).equals(expected)) wrong++;
    }
    return { pages, wrong };
  }
  throw new Error("a signature without SHA-256");
}

function pageHash(code, page, limit) {
  return createHash("sha256")
    .update(code.subarray(page * PAGE, Math.min((page + 1) * PAGE, limit)))
    .digest();
}

function layoutOf(image) {
  if (image.length < 32 || image.readUInt32LE(0) !== MAGIC_64) throw new Error("not a thin 64-bit Mach-O");
  const commands = image.readUInt32LE(16);
  const layout = {
    fileType: image.readUInt32LE(12),
    commands,
    commandBytes: image.readUInt32LE(20),
    linkEdit: null,
    signature: null,
    textOffset: 0n,
    textBytes: 0n,
    firstSection: Number.POSITIVE_INFINITY,
  };
  let at = 32;
  for (let index = 0; index < commands; index++) {
    const command = image.readUInt32LE(at);
    if (command === LC_CODE_SIGNATURE) layout.signature = at;
    if (command === LC_SEGMENT_64) {
      const name = image.toString("latin1", at + 8, at + 24).replace(/\0+$/, "");
      if (name === "__LINKEDIT") layout.linkEdit = at;
      if (name === "__TEXT") {
        layout.textOffset = image.readBigUInt64LE(at + 40);
        layout.textBytes = image.readBigUInt64LE(at + 48);
      }
      for (let section = 0; section < image.readUInt32LE(at + 64); section++) {
        const start = image.readUInt32LE(at + 72 + 80 * section + 48);
        if (start > 0) layout.firstSection = Math.min(layout.firstSection, start);
      }
    }
    at += image.readUInt32LE(at + 4);
  }
  return layout;
}

function writeWords(buffer, at, words) {
  for (const [index, word] of words.entries()) buffer.writeUInt32BE(word >>> 0, at + 4 * index);
}

function align(value, to) {
  return Math.ceil(value / to) * to;
}
