import { describe, expect, test } from "vitest";
import { boundaryOf, createMultipartReader } from "../../src/local/coordinator/http/multipart.ts";
import { alloyExpirySeconds } from "../../src/local/coordinator/jobs/artifacts.ts";
import { createMarkerSearch } from "../../src/local/coordinator/jobs/trace-store.ts";
import { createUpdateReader } from "../../src/local/coordinator/jobs/update-body.ts";

/** All ways to cut `bytes` in two, and the one that cuts it into single bytes. */
function cuts(bytes: Buffer): Buffer[][] {
  const pairs = Array.from({ length: bytes.length + 1 }, (_, at) => [bytes.subarray(0, at), bytes.subarray(at)]);
  return [...pairs, Array.from({ length: bytes.length }, (_, at) => bytes.subarray(at, at + 1))];
}

function readUpdate(pieces: readonly Buffer[]): { fields: unknown; trace: string | undefined } {
  let trace: string | undefined;
  const reader = createUpdateReader({
    begin() {
      trace = "";
    },
    write(text) {
      trace = (trace ?? "") + text;
    },
  });
  for (const piece of pieces) reader.write(piece);
  return { fields: reader.end(), trace };
}

describe("an update that is read while it arrives", () => {
  const trace = 'a "quoted" \\ back\\\\slash\\" \u001b[31mred\u001b[0m é 漢 😀 \u2028 end\\';
  const bodies = {
    "plain JSON": JSON.stringify({
      token: 't{["',
      info: { trace: "not this one", list: [1, "}"] },
      trace,
      state: "success",
    }),
    "everything escaped": `{"trace" : "${[...Array(trace.length).keys()]
      .map((at) => `\\u${trace.charCodeAt(at).toString(16).padStart(4, "0")}`)
      .join("")}","token":"t{[\\"","state":"success","info":{"trace":"not this one","list":[1,"}"]}}`,
  };
  for (const [name, body] of Object.entries(bodies))
    test(`is the same wherever it is cut: ${name}`, () => {
      for (const pieces of cuts(Buffer.from(body)))
        expect(readUpdate(pieces)).toEqual({
          fields: { token: 't{["', state: "success", info: { trace: "not this one", list: [1, "}"] }, trace: "" },
          trace,
        });
    });

  test("a trace that is no text stays a field, and of two the last one counts", () => {
    expect(readUpdate([Buffer.from('{"trace":null,"a":[{"trace":"x"}]}')])).toEqual({
      fields: { trace: null, a: [{ trace: "x" }] },
      trace: undefined,
    });
    expect(readUpdate([Buffer.from('{"trace":"one","trace":"two"}')]).trace).toBe("two");
  });

  test.each([
    ["a raw newline", '{"trace":"a\nb"}'],
    ["a lone surrogate", '{"trace":"a\\ud83d b"}'],
    ["a lone surrogate at the end", '{"trace":"a\\ude00"}'],
    ["a bad escape", '{"trace":"a\\x41"}'],
    ["an early end", '{"trace":"abc'],
    ["an end within an escape", '{"trace":"abc\\u00'],
    ["rubbish behind it", '{"trace":"abc"} x'],
    ["a list", '["trace"]'],
    ["nothing", ""],
  ])("refuses %s", (_, body) => {
    for (const pieces of cuts(Buffer.from(body))) expect(() => readUpdate(pieces)).toThrow(SyntaxError);
  });

  test("refuses what is no UTF-8", () => {
    const bytes = Buffer.concat([Buffer.from('{"trace":"'), Buffer.from([0xe9]), Buffer.from('x"}')]);
    for (const pieces of cuts(bytes)) expect(() => readUpdate(pieces)).toThrow(SyntaxError);
  });
});

describe("multipart", () => {
  test("parts come out whole wherever the body is cut", async () => {
    const content = "\r\n--Xy\r\n--XyZ\n--XyZ \r--\r\n\r\n";
    const body = [
      "preamble\r\n--XyZ1\r\n",
      'Content-Disposition: form-data; name="note"\r\n\r\n',
      "\r\n--XyZ1\r\n",
      'content-type: text/plain\r\nCONTENT-DISPOSITION: form-data; filename="a \\"b\\".zip"; name="file"\r\n\r\n',
      content,
      "\r\n--XyZ1--\r\nepilogue",
    ].join("");
    for (const pieces of cuts(Buffer.from(body))) {
      const parts: { head: unknown; text: string; ended: boolean }[] = [];
      const reader = createMultipartReader("XyZ1", {
        begin: (head) => void parts.push({ head, text: "", ended: false }),
        write(bytes) {
          const part = parts.at(-1);
          if (part !== undefined) part.text += bytes.toString();
        },
        end() {
          const part = parts.at(-1);
          if (part !== undefined) part.ended = true;
        },
      });
      for (const piece of pieces) await reader.write(piece);
      expect(reader.complete).toBe(true);
      expect(parts).toEqual([
        { head: { name: "note", filename: undefined }, text: "", ended: true },
        { head: { name: "file", filename: 'a "b".zip' }, text: content, ended: true },
      ]);
    }
  });

  test("a head without end is refused, a body without end is not complete", async () => {
    const sink = { begin: () => undefined, write: () => undefined, end: () => undefined };
    const endless = createMultipartReader("b", sink);
    await endless.write(Buffer.from("--b\r\n"));
    await expect(endless.write(Buffer.alloc(20_000, "x"))).rejects.toThrow(SyntaxError);
    const cut = createMultipartReader("b", sink);
    await cut.write(Buffer.from("--b\r\n\r\ntext"));
    expect(cut.complete).toBe(false);
  });

  test("the boundary is found quoted and bare", () => {
    expect(boundaryOf("multipart/form-data; boundary=abc")).toBe("abc");
    expect(boundaryOf('Multipart/Form-Data; charset=utf-8; boundary="a b;c"')).toBe("a b;c");
    expect(boundaryOf("application/json; boundary=x")).toBeUndefined();
    expect(boundaryOf(undefined)).toBeUndefined();
  });
});

test("markers are found wherever the trace is cut, with the time of their line's end", () => {
  const trace = Buffer.from("x @mark 1\n@mar\n@mark 2\r\n@@mark 3\n@mark unfinished");
  for (const pieces of cuts(trace)) {
    const found: string[] = [];
    const search = createMarkerSearch("@mark ", ({ text }) => found.push(text));
    for (const piece of pieces) search(piece, 0);
    expect(found).toEqual(["@mark 1", "@mark 2", "@mark 3"]);
  }
});

test.each([
  [undefined, 604_800],
  ["", 604_800],
  ["3 mins 4 sec", 184],
  ["2h20min", 8400],
  ["1 week", 604_800],
  ["1 mo 1 y", 34_149_600],
  ["3600", 0],
  ["never", 0],
  ["1.5 days", undefined],
])("AlloyCI keeps an artifact for %j: %j seconds", (text, seconds) => {
  expect(alloyExpirySeconds(text)).toBe(seconds);
});
