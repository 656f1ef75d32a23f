import { z } from "zod";
import shell from "../../../executors/shell/index.ts";
import { defineExecutor } from "../../../src/executor/executor.ts";
import { words } from "./words.ts";

/** A minimal executor: it has the shell's jobs and a table of its own. */
export default defineExecutor({
  ...words,
  tables: [{ name: "paper", required: true, schema: z.object({ colour: z.string() }) }],
  shells: shell.shells,
  create: ({ paper }, deps) => {
    deps.log.info("a new sheet", { paper: JSON.stringify(paper) });
    return { ...shell.create({}, deps), name: words.name, title: words.title };
  },
});
