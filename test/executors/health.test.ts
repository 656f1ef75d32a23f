import { expect, test } from "vitest";
import { healthPorts } from "../../executors/images/health.ts";
import { SystemFailure } from "../../src/errors.ts";

const ports = (env: readonly string[], exposed: readonly string[] = []): number[] =>
  healthPorts({ name: "db", exposed, env });

test("the last HEALTHCHECK_TCP_PORT of image, job and service counts, in letters of either case", () => {
  expect(ports(["HEALTHCHECK_TCP_PORT=1", "OTHER=2", "healthcheck_tcp_port= 3 "], ["80/tcp"])).toEqual([3]);
});

test("without one it is what the image exposes over TCP, the lowest ones", () => {
  expect(ports(["HEALTHCHECK_TCP_PORT="], ["443/tcp", "53/udp", "80", "0/tcp"])).toEqual([80, 443]);
  const many = Array.from({ length: 30 }, (_, index) => `${index + 1}/tcp`);
  expect(ports([], many)).toHaveLength(20);
});

test.each(["0", "65536", "http", "-1", "80 443"])("the port %s is a mistake of whoever wrote it", (port) => {
  expect(() => ports([`HEALTHCHECK_TCP_PORT=${port}`])).toThrow(SystemFailure);
});
