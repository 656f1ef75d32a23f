import type { Argv, Op, Test } from "../../shell.ts";

/** `then` where `test` holds, `otherwise` where it does not. */
export function when(test: Test, then: readonly Op[], otherwise: readonly Op[] = []): Op {
  return { op: "when", test, then, else: otherwise };
}

export function not(test: Test): Test {
  return { test: "not", of: test };
}

/** The command ends well; its output is thrown away. */
export function succeeds(argv: Argv): Test {
  return { test: "succeeds", argv };
}
