import { expect, test } from "vitest";
import { describeError } from "../../src/errors.ts";
import { never, retry } from "../../src/time.ts";
import { openBucketStore } from "./bucket-store.ts";
import { getLarge, inPieces, LARGE, place, putLarge } from "./large-caches.ts";
import { openS3, type S3Request } from "./s3-server.ts";

const failureOf = async (work: Promise<unknown>): Promise<string> => await work.then(() => "it worked", describeError);
const isComplete = ({ method, url }: S3Request): boolean => method === "POST" && url.searchParams.has("uploadId");
const abandoned = (requests: readonly S3Request[]): boolean =>
  requests.some(({ method, url }) => method === "DELETE" && url.searchParams.has("uploadId"));

test("a large archive goes and comes in pieces, of which one may fail twice", async () => {
  const s3 = await openS3();
  const { store } = openBucketStore(s3.endpoint, {}, inPieces);
  let failures = 2;
  s3.intercept(({ url }) =>
    url.searchParams.get("partNumber") === "3" && failures-- > 0 ? { status: 500 } : undefined,
  );
  const hash = await putLarge(store);
  const parts = s3.requests.flatMap(({ method, url }) =>
    method === "PUT" ? [url.searchParams.get("partNumber")] : [],
  );
  expect(parts.sort()).toEqual(["1", "2", "3", "3", "3", "4", "5"]);
  expect(await store.fingerprint(place, never)).toBe("fingerprint");
  const before = s3.requests.length;
  expect(await getLarge(store)).toBe(hash);
  const ranges = s3.requests.slice(before).map(({ headers }) => headers.range);
  expect(ranges).toEqual(["bytes=0-4194303", `bytes=4194304-${LARGE - 1}`]);
  expect(s3.requests.at(-1)?.headers["if-match"]).toMatch(/^".+"$/);
  expect(abandoned(s3.requests)).toBe(false);
});

test("parts that are not put together are tried again, or given up; what was there stays", async () => {
  const s3 = await openS3();
  const { store } = openBucketStore(s3.endpoint, {}, inPieces);
  const hash = await putLarge(store, never, "old");
  let answers = 1;
  s3.intercept((request) =>
    isComplete(request) && answers-- > 0
      ? { status: 200, body: "<Error><Code>InternalError</Code></Error>" }
      : undefined,
  );
  const renewed = await putLarge(store, never, "new");
  expect(renewed).not.toBe(hash);
  expect(await getLarge(store)).toBe(renewed);
  s3.intercept((request) =>
    isComplete(request) ? { status: 200, body: "<Error><Code>InvalidPart</Code></Error>" } : undefined,
  );
  expect(await failureOf(putLarge(store, never, "third"))).toMatch(/parts were not put together: InvalidPart/);
  expect(abandoned(s3.requests)).toBe(true);
  expect(await getLarge(store)).toBe(renewed);
});

test("a cancel ends what is under way and leaves no parts", async () => {
  const s3 = await openS3();
  const { store } = openBucketStore(s3.endpoint, {}, inPieces);
  const canceling = new AbortController();
  s3.intercept(({ url }) => {
    if (url.searchParams.get("partNumber") !== "2") return undefined;
    canceling.abort(new Error("canceled by a test"));
    return { status: 500 };
  });
  expect(await failureOf(putLarge(store, canceling.signal))).toBe("canceled by a test");
  expect(abandoned(s3.requests)).toBe(true);
  expect(await store.fingerprint(place, never)).toBeNull();
});

test("an object that is replaced while it is read is read anew", async () => {
  const s3 = await openS3();
  const { store } = openBucketStore(s3.endpoint, {}, inPieces);
  const hash = await putLarge(store);
  let changes = 1;
  s3.intercept(({ headers }) => (headers["if-match"] !== undefined && changes-- > 0 ? { status: 412 } : undefined));
  expect(await retry({ attempts: store.tries, firstMs: 5 }, () => getLarge(store), never)).toBe(hash);
});
