import { expect, test } from "vitest";
import { dockerTable } from "../../executors/docker/settings/settings.ts";
import { ownImageAsService } from "../../executors/images/own-image.ts";

const ofTable = (table: Readonly<Record<string, unknown>>) => ownImageAsService(dockerTable.parse(table));

test("an entry's own image is a service only where its rules let it be one", () => {
  expect(ofTable({ image: "alpine" })).toBe("alpine");
  expect(ofTable({ image: "alpine", allowed_services: ["alpine:*", "redis"] })).toBe("alpine");
  for (const table of [
    {},
    { image: "$IMAGE" },
    { image: "alpine", allowed_services: ["redis"] },
    { image: "alpine", services_limit: 0 },
    { image: "alpine", services: [{ name: "redis" }], services_limit: 1 },
    { image: "alpine", disable_entrypoint_overwrite: true },
  ]) {
    expect(ofTable(table), JSON.stringify(table)).toBeUndefined();
  }
});
