import { z } from "zod";
import { expiry, flag, text, textOrTexts, texts } from "./words.ts";

/** What a job takes over from others and leaves behind. */

const transferWhen = z.enum(["on_success", "on_failure", "always"], "on_success, on_failure or always");
const cacheKey = z.union(
  [
    text
      .refine((key) => !/\/|%2F/i.test(key), "a key without /")
      .refine((key) => !/^\.{1,2}$/.test(key), "a key that is not only dots"),
    z
      .strictObject({
        files: z
          .array(text, "a list of texts")
          .min(1, "a list with 1 or 2 names")
          .max(2, "a list with at most 2 names")
          .optional(),
        files_commits: z
          .array(text, "a list of texts")
          .min(1, "a list with 1 or 2 names")
          .max(2, "a list with at most 2 names")
          .optional(),
        prefix: text.optional(),
      })
      .refine(
        ({ files, files_commits: commits }) => (files === undefined) !== (commits === undefined),
        "a table with only one of files and files_commits",
      ),
  ],
  "a text, or a table with files",
);
const oneCache = z.strictObject(
  {
    key: cacheKey.nullable().optional(),
    paths: texts.optional(),
    untracked: flag.optional(),
    unprotect: flag.optional(),
    policy: text.regex(/^(?:pull-push|pull|push)$|\$/, "pull-push, pull or push, or a variable").optional(),
    when: transferWhen.optional(),
    fallback_keys: texts.max(5, "a list of at most 5 keys").optional(),
  },
  "a table",
);
export const cache = z.union(
  [oneCache, z.array(oneCache).max(4, "a list of at most 4 caches")],
  "a table, or a list of tables",
);

const REPORTS =
  "junit codequality sast secret_detection dependency_scanning container_scanning dast performance browser_performance load_performance license_scanning metrics lsif dotenv terraform accessibility coverage_fuzzing api_fuzzing cluster_image_scanning requirements requirements_v2 cyclonedx annotations repository_xray sarif";
const reports = z.strictObject(
  {
    ...Object.fromEntries(REPORTS.split(" ").map((name) => [name, textOrTexts.optional()])),
    dotenv: textOrTexts.optional(),
    coverage_report: z
      .strictObject({ coverage_format: z.enum(["cobertura", "jacoco"], "cobertura or jacoco"), path: text }, "a table")
      .optional(),
  },
  "a table of reports",
);
export const artifacts = z
  .strictObject(
    {
      name: text.optional(),
      untracked: flag.optional(),
      paths: texts.optional(),
      exclude: texts.optional(),
      reports: reports.nullable().optional(),
      expose_as: text
        .max(100, "at most 100 characters")
        .regex(/^[A-Za-z0-9_][A-Za-z0-9_ -]*$/, "letters, digits, _, - and spaces")
        .optional(),
      when: transferWhen.optional(),
      expire_in: expiry.optional(),
      public: flag.optional(),
      access: z.enum(["all", "developer", "maintainer", "none"], "all, developer, maintainer or none").optional(),
    },
    "a table",
  )
  .refine(
    (value) => value.public === undefined || value.access === undefined,
    "a table with only one of public and access",
  )
  .refine(
    (value) => value.expose_as === undefined || (value.paths?.every((path) => !path.includes("*")) ?? false),
    "a table with paths, and no * in them, where it has expose_as",
  );
