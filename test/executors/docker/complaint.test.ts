import { expect, test } from "vitest";
import { complaintKind } from "../../../executors/docker/engine/complaint.ts";

test.each([
  // Messages of Docker 20.10 and 27, and of Podman 4.3 and 5.2.
  [
    "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
    "no_addresses",
  ],
  ["all predefined address pools have been fully subnetted", "no_addresses"],
  ["could not find free subnet from subnet pools", "no_addresses"],
  ["route ip+net: no such network interface", "interface_vanished"],
  ["container 3f2a has dependent containers which must be removed before it: 9bc1", "has_dependents"],
  ["error while removing network: network x id 1f has active endpoints", "has_endpoints"],
  ['OCI runtime create failed: exec: "sh": executable file not found in $PATH: unknown', "no_program"],
  [
    "crun: executable file `sh` not found in $PATH: No such file or directory: OCI runtime attempted to invoke",
    "no_program",
  ],
  ["failed to create task: exec /bin/sh: permission denied", "no_program"],
  ["stat /missing: no such file or directory", "other"],
  ["device or resource busy", "other"],
] as const)("%s", (said, kind) => {
  expect(complaintKind(said)).toBe(kind);
});
