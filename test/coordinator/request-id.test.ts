import { expect, test } from "vitest";
import { openCoordinator } from "../../src/coordinator/client.ts";
import { never } from "../../src/time.ts";
import { credentials, info, noTls, site, testDeps } from "./server.ts";

test("each call has a number, and a coordinator's failure is told with the one in its log", async () => {
  const ids = ["01JQ-its.own_id", "<script>", undefined];
  const { url, received } = await site((_request, index) => {
    const id = ids[index];
    return { status: index === 3 ? 403 : 502, headers: id === undefined ? {} : { "x-request-id": id } };
  });
  const coordinator = openCoordinator({ url, token: "t", ...noTls }, testDeps());
  const messages: string[] = [];
  for (let index = 0; index < 3; index++) {
    const answer = await coordinator.requestJob(info, { hold: false }, never);
    messages.push(answer.kind === "trouble" ? answer.message.replace(/^.*?: /, "") : answer.kind);
  }
  await coordinator.updateJob(credentials("gitlab"), { state: "running" }, never);
  expect(messages).toEqual(["502 Bad Gateway (request 01JQ-its.own_id)", "502 Bad Gateway", "502 Bad Gateway"]);
  const sent = received.map(({ headers }) => String(headers["x-request-id"]));
  expect(new Set(sent).size).toBe(4);
  for (const id of sent) expect(id).toMatch(/^[0-9a-f]{32}$/);
  expect(new Set(sent.map((id) => id.slice(0, 16))).size).toBe(1);
});
