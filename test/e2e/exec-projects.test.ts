import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { linesOf, openProject, type Project } from "../support/project.ts";
import { states } from "../support/summary.ts";

/**
 * Files of the kinds that public projects have, each listed, printed and run: a library over versions, a service with
 * images and environments, a monorepo with child pipelines, a site with pages, and a project of shared templates. Their
 * scripts are what any machine can do.
 */

let project: Project;
beforeEach(async () => {
  project = await openProject();
  project.git("init", "--quiet", "--initial-branch=main");
  project.git("remote", "add", "origin", "git@git.example.com:group/project.git");
});
afterEach(async () => await project.close());

async function files(of: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, content] of Object.entries(of)) {
    await mkdir(dirname(join(project.dir, name)), { recursive: true });
    await writeFile(join(project.dir, name), content);
  }
  project.git("add", ".");
  project.git("commit", "--quiet", "-m", "One");
}

/** Lists, prints and runs. */
async function through(
  args: readonly string[] = [],
): Promise<{ list: string; table: Record<string, string>; stdout: string; code: number | null }> {
  const list = await project.exec(["--list", ...args]);
  expect(list.code, list.stderr).toBe(0);
  const printed = await project.exec(["--print", ...args]);
  expect(printed.code, printed.stderr).toBe(0);
  const { stdout, code } = await project.exec(["-j", "2", ...args]);
  return { list: list.stdout, table: states(stdout), stdout, code };
}

test("a library that is tested over a matrix, with coverage, caches and a release for tags", async () => {
  await files({
    "lib/version": "1.2.3\n",
    ".gitlab-ci.yml": `
workflow:
  rules:
    - if: $CI_MERGE_REQUEST_IID
    - if: $CI_COMMIT_TAG
    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH
default:
  image: python:3.13
  interruptible: true
  cache: &pip
    key: {files: [lib/version], prefix: $CI_JOB_NAME_SLUG}
    paths: [.cache]
.retried: {retry: {max: 2, when: [runner_system_failure, stuck_or_timeout_failure]}}
lint: {stage: build, script: [test -f lib/version], needs: []}
unit:
  extends: .retried
  image: python:$PYTHON
  parallel: {matrix: [{PYTHON: ["3.12", "3.13"], DEPS: [oldest, newest]}]}
  script: ['echo "python $PYTHON, $DEPS"', 'mkdir -p .cache && echo x > .cache/x', 'echo "TOTAL 93.5%"', 'echo "<testsuites/>" > junit.xml']
  coverage: '/TOTAL.*?(\\d+(?:\\.\\d+)?)%/'
  artifacts: {when: always, reports: {junit: junit.xml}}
  cache: {<<: *pip, policy: pull-push}
publish:
  stage: deploy
  script: [cat lib/version]
  rules: [{if: $CI_COMMIT_TAG}]
  release: {tag_name: $CI_COMMIT_TAG, description: new}
`,
  });
  const { list, table, stdout, code } = await through();
  expect(list).not.toContain("publish");
  expect(table).toEqual({
    lint: "success",
    "unit: [3.12, oldest]": "success",
    "unit: [3.12, newest]": "success",
    "unit: [3.13, oldest]": "success",
    "unit: [3.13, newest]": "success",
  });
  expect(linesOf("unit: [3.12, oldest]", stdout)).toContain("python 3.12, oldest");
  expect(code).toBe(0);
  project.git("tag", "v1");
  const tagged = await project.exec(["--ref", "refs/tags/v1", "publish"]);
  expect(tagged.stdout).toContain("publish: the release $CI_COMMIT_TAG is not made");
  expect(states(tagged.stdout)).toEqual({ publish: "success" });
});

test("a service with an image to build, review environments, manual production and clean-up", async () => {
  await files({
    ".gitlab-ci.yml": `
stages: [build, test, review, production]
variables: {IMAGE: "registry.example.com/app:$CI_COMMIT_SHORT_SHA", DOCKER_TLS_CERTDIR: "/certs"}
build:
  stage: build
  script: ['echo "building $IMAGE"', 'echo "IMAGE_DIGEST=sha256:abc" > build.env']
  artifacts: {reports: {dotenv: build.env}}
test:
  stage: test
  services: [{name: "postgres:16", alias: db, variables: {POSTGRES_PASSWORD: x}}]
  variables: {DATABASE_URL: "postgres://db/$CI_PROJECT_NAME"}
  script: ['echo "$DATABASE_URL with $IMAGE_DIGEST"']
review:
  stage: review
  environment: {name: "review/$CI_COMMIT_REF_SLUG", url: "https://$CI_ENVIRONMENT_SLUG.example.com", on_stop: stop, auto_stop_in: 1 week}
  script: ['echo "to $CI_ENVIRONMENT_NAME ($CI_ENVIRONMENT_SLUG) at $CI_ENVIRONMENT_URL"']
stop:
  stage: review
  environment: {name: "review/$CI_COMMIT_REF_SLUG", action: stop}
  when: manual
  script: [echo stopping]
production:
  stage: production
  resource_group: production
  environment: {name: production, deployment_tier: production}
  rules: [{if: '$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH', when: manual}]
  script: [echo live]
notify: {stage: .post, script: ['echo "told $CI_PIPELINE_SOURCE"'], when: always}
`,
  });
  const { list, table, stdout, code } = await through();
  expect(list).toContain("environment review/main");
  expect(table).toEqual({
    build: "success",
    test: "success",
    review: "success",
    stop: "manual",
    production: "manual",
    notify: "skipped",
  });
  expect(linesOf("test", stdout)).toContain("postgres://db/project with sha256:abc");
  expect(linesOf("review", stdout).join("\n")).toMatch(
    /to review\/main \(review-main-\w{6}\) at https:\/\/review-main-\w{6}\.example\.com/,
  );
  expect(stdout).toContain("blocked: production waits");
  expect(code).toBe(0);
  expect(states((await project.exec(["--manual", "production"])).stdout)).toMatchObject({
    production: "success",
    notify: "success",
  });
});

test("a monorepo: a child pipeline for each part that has changed, and one that is generated", async () => {
  const part = (name: string): string => `
build: {stage: build, script: ['echo "${name} of $PART"', mkdir -p dist, 'echo ${name} > dist/${name}'], artifacts: {paths: [dist]}}
check: {stage: test, script: ['test "$(cat dist/${name})" = ${name}']}
`;
  await files({
    "web/ci.yml": part("web"),
    "api/ci.yml": part("api"),
    ".gitlab-ci.yml": `
stages: [prepare, parts, last]
.part: {stage: parts, variables: {PART: "$CI_JOB_NAME"}}
web: {extends: .part, trigger: {include: web/ci.yml, strategy: depend}, rules: [{changes: [web/**/*]}]}
api: {extends: .part, trigger: {include: api/ci.yml, strategy: depend}, rules: [{changes: [api/**/*]}]}
generate: {stage: prepare, script: ["printf 'made: {script: [echo generated]}\\\\n' > made.yml"], artifacts: {paths: [made.yml]}}
generated: {stage: parts, trigger: {include: [{artifact: made.yml, job: generate}], strategy: depend}}
summary: {stage: last, script: [echo all]}
`,
  });
  const { list, table, stdout, code } = await through(["--changed", "web/index.js"]);
  expect(list).toMatch(/^web \/ build /m);
  expect(table).toEqual({
    generate: "success",
    web: "success",
    "web / build": "success",
    "web / check": "success",
    generated: "success",
    "generated / made": "success",
    summary: "success",
  });
  expect(linesOf("web / build", stdout)).toContain("web of web");
  expect(code).toBe(0);
});

test("a site with pages, schedules and old keywords", async () => {
  await files({
    "content/index.md": "# hello\n",
    ".gitlab-ci.yml": `
image: alpine:latest
before_script:
  - echo preparing
cache:
  paths:
    - vendor/
test:
  stage: test
  script:
    - |
      if grep -q hello content/index.md; then
        echo "found it"
      fi
  except:
    - schedules
links:
  stage: test
  script: [echo links]
  only: [schedules]
pages:
  stage: deploy
  script: [mkdir -p public, cp content/index.md public/]
  artifacts:
    paths: [public]
    expire_in: 1 week
  only: [main]
`,
  });
  const { table, stdout, code } = await through();
  expect(table).toEqual({ test: "success", pages: "success" });
  expect(linesOf("test", stdout)).toEqual(expect.arrayContaining(["preparing", "found it"]));
  expect(code).toBe(0);
  expect(states((await project.exec(["--source", "schedule"])).stdout)).toEqual({ links: "success", pages: "success" });
});

test("shared templates: inputs, references across files, hidden jobs, own components", async () => {
  await files({
    "templates/job.yml": `
spec:
  inputs:
    name: {regex: "^[a-z-]+$"}
    stage: {default: test, options: [build, test]}
    commands: {type: array, default: [echo nothing]}
    strict: {type: boolean, default: true}
---
"$[[ inputs.name ]]":
  stage: $[[ inputs.stage ]]
  allow_failure: $[[ inputs.strict ]]
  script: ["$[[ inputs.commands ]]", 'echo "done $[[ inputs.name | posix_escape ]]"']
`,
    "ci/snippets.yml": ".setup: {script: [echo one, echo two]}\n.rules: {rules: [{if: $NEVER, when: never}]}\n",
    ".gitlab-ci.yml": `
include:
  - local: ci/*.yml
  - {component: $CI_SERVER_FQDN/group/project/job@$CI_COMMIT_SHA, inputs: {name: first, commands: [echo a, echo b]}}
  - {local: templates/job.yml, inputs: {name: second, stage: build, strict: false}}
own:
  script: [!reference [.setup, script], echo three]
  rules: [!reference [.rules, rules], {when: on_success}]
`,
  });
  const { table, stdout, code } = await through();
  expect(table).toEqual({ second: "success", first: "success", own: "success" });
  expect(linesOf("first", stdout)).toEqual(expect.arrayContaining(["a", "b", "done first"]));
  expect(linesOf("own", stdout)).toEqual(expect.arrayContaining(["one", "two", "three"]));
  expect(code).toBe(0);
});
