import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdir, open, rm, stat, utimes } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import type Docker from "dockerode";
import { pwshFolder } from "./pwsh.ts";

/** Images that the tests make on the spot, of this machine's Debian packages. */

interface Recipe {
  /** Arguments of root-tar.py. */
  readonly root: readonly string[];
  /** Lines of a Dockerfile for the image's configuration. */
  readonly changes: readonly string[];
}

const PATH = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const accounts = (shell: string, user = ""): string[] => [
  "--file",
  `/etc/passwd=root:x:0:0:root:/root:${shell}\nsshd:x:110:65534::/run/sshd:/usr/sbin/nologin\nbuilder:x:1000:1000::/home/builder:${shell}\n${user}`,
  "--file",
  "/etc/group=root:x:0:\nbuilder:x:1000:\nnogroup:x:65534:\n",
];
const BASH =
  "bash dash coreutils findutils tar gzip sed grep mawk procps util-linux hostname git ca-certificates".split(" ");

/** `root` with this password opens the account in the sshd image. */
export const sshPassword = "an image's password";
/** The hash of `sshPassword`, by `openssl passwd -6`. */
const SSH_PASSWORD_HASH =
  "$6$testimage$ZbjPPrT.ELu.LlrPlEfRzgzb5xQsX9YqEFR2YuBBUuoGqiSeJ8LTTkfDWsPpsGLpVmAsbN3Em3AMa48wJQCCU/";

/** What an image must have so that its own command is an sshd; root has `sshPassword`. */
const SSHD = [
  "--file",
  `/etc/shadow=root:${SSH_PASSWORD_HASH}:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n`,
  "--mode",
  "/etc/shadow=0600",
  "--directory",
  "/run/sshd",
  "--file",
  "/etc/ssh/sshd_config=PermitRootLogin yes\nPasswordAuthentication yes\nUsePAM no\nMaxSessions 50\nMaxStartups 100\n",
  ...BASH,
  "openssh-server",
  "openssh-client",
];
const RUN_SSHD = `CMD ["sh", "-c", "ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key && exec /usr/sbin/sshd -D -e"]`;
/** Made only where the tests have a pwsh. */
const PWSH = pwshFolder() ?? "";

const recipes = {
  /** busybox: sh, no bash, no git. */
  sh: { root: ["--busybox", ...accounts("/bin/sh")], changes: [PATH, 'CMD ["sh"]'] },
  /** bash, git and Debian's tools. */
  git: { root: [...accounts("/bin/bash"), ...BASH], changes: [PATH, 'CMD ["bash"]'] },
  /** Like `git`, with what packs archives. */
  archivers: { root: [...accounts("/bin/bash"), ...BASH, "zip", "zstd"], changes: [PATH, 'CMD ["bash"]'] },
  /** Like `git`, with an entrypoint as images of git have it. */
  entrypoint: { root: [...accounts("/bin/bash"), ...BASH], changes: [PATH, 'ENTRYPOINT ["git"]', 'CMD ["--help"]'] },
  /** busybox as uid 1000. */
  user: {
    root: ["--busybox", ...accounts("/bin/sh"), "--directory", "/home/builder", "--mode", "/home/builder=0777"],
    changes: [PATH, "USER 1000:1000", "WORKDIR /home/builder", 'CMD ["sh"]'],
  },
  /** busybox and git, with git as its entrypoint. */
  helper: {
    root: ["--busybox", ...accounts("/bin/sh"), "git", "ca-certificates"],
    changes: [PATH, 'ENTRYPOINT ["git"]', 'CMD ["--help"]'],
  },
  /**
   * An image that claims to be for uid 0. Its programs (`sh`, `id`, `ps`, `kill` and the like) write to /seen when that
   * user runs them, and `id` lies. It carries labels of the runner's.
   */
  hostile: {
    root: [
      "--busybox",
      ...accounts("/bin/sh", "sneaky:x:0:0::/:/bin/sh\n"),
      ...["sh", "ps", "kill", "cat", "ls", "rm", "mkdir", "chown", "sleep", "env", "printf"].flatMap((name) => [
        "--file",
        `/usr/local/bin/${name}=#!/bin/busybox sh\n[ "$(/bin/busybox id -u)" != 0 ] || echo "${name} $*" >>/seen/root\nexec /bin/busybox ${name} "$@"\n`,
        "--mode",
        `/usr/local/bin/${name}=0755`,
      ]),
      "--file",
      '/usr/local/bin/id=#!/bin/busybox sh\n[ "$(/bin/busybox id -u)" != 0 ] || echo "id $*" >>/seen/root\necho 0\n',
      "--mode",
      "/usr/local/bin/id=0755",
      "--directory",
      "/seen",
    ],
    changes: [
      PATH,
      'CMD ["sh"]',
      'LABEL alloy-runner.role="helper"',
      'LABEL alloy-runner.slot="r/1/0"',
      'LABEL alloy-runner.tmp-dir="/etc"',
      'LABEL alloy-runner.tidies="1"',
      'LABEL alloy-runner.unknown="x"',
    ],
  },
  /** Like `git`, with a setuid program. */
  setuid: { root: [...accounts("/bin/bash"), ...BASH, "--mode", "/usr/bin/id=4755"], changes: [PATH, 'CMD ["bash"]'] },
  /** An image without any program. */
  empty: { root: ["--file", "/hello=hello\n"], changes: ['CMD ["/hello"]'] },
  /** Answers `hello` on port 8080, as a service. */
  service: {
    root: ["--busybox", ...accounts("/bin/sh"), "--file", "/www/index.html=hello\n"],
    changes: [PATH, "EXPOSE 8080", 'CMD ["busybox", "httpd", "-f", "-v", "-p", "8080", "-h", "/www"]'],
  },
  /** A service that ends at once, with a complaint. */
  broken: {
    root: ["--busybox", ...accounts("/bin/sh")],
    changes: [PATH, "EXPOSE 8080", 'CMD ["sh", "-c", "echo cannot find my data >&2; exit 3"]'],
  },
  /** sshd with bash and git; root has `sshPassword`. */
  sshd: {
    root: [...accounts("/bin/bash"), ...SSHD],
    changes: [PATH, "EXPOSE 22", RUN_SSHD],
  },
  /** The same with PowerShell 7, which the image's PATH and root's profile name. Its Start-Job wants OpenSSL. */
  pwsh: {
    root: [
      ...accounts("/bin/bash"),
      "--file",
      `/root/.profile=PATH=$PATH:${PWSH}\n`,
      "--tree",
      PWSH,
      ...SSHD,
      "openssl",
    ],
    changes: [`${PATH}:${PWSH}`, "EXPOSE 22", RUN_SSHD],
  },
} as const satisfies Record<string, Recipe>;

export type TestImage = keyof typeof recipes;

/** Writes the root file system of an image, as a tar. */
export const rootTar = join(import.meta.dirname, "root-tar.py");
const version = createHash("sha256")
  .update(readFileSync(rootTar))
  .update(JSON.stringify(recipes))
  .digest("hex")
  .slice(0, 8);

/** Name of a test image; it is there after `makeImages`. */
export function imageName(image: TestImage): string {
  return `alloy-test/${image}:${version}`;
}

/** Make those images of `wanted` that the engine lacks. Test files that run at the same time wait for one another. */
export async function makeImages(docker: Docker, engineId: string, wanted: readonly TestImage[]): Promise<void> {
  await exclusively(`alloy-test-images-${engineId}`, async () => {
    for (const image of wanted) {
      const name = imageName(image);
      const there = await docker
        .getImage(name)
        .inspect()
        .then(
          () => true,
          () => false,
        );
      if (!there) await makeImage(docker, image);
    }
  });
}

/** Writes the root file system of an image as a tar, for tests without an engine. */
export async function makeRootTar(image: TestImage, path: string): Promise<void> {
  const file = await open(path, "w");
  try {
    const tar = spawn("python3", [rootTar, ...recipes[image].root], { stdio: ["ignore", file.fd, "inherit"] });
    const code = await new Promise<number | null>((resolve) => tar.on("close", resolve));
    if (code !== 0) throw new Error(`the root of ${image} cannot be made`);
  } finally {
    await file.close();
  }
}

/** How a test image is made: arguments of root-tar.py, and lines of a Dockerfile. */
export function imageRecipe(image: TestImage): { root: readonly string[]; changes: readonly string[] } {
  return recipes[image];
}

async function makeImage(docker: Docker, image: TestImage): Promise<void> {
  const { root, changes } = recipes[image];
  const tar = spawn("python3", [rootTar, ...root], { stdio: ["ignore", "pipe", "pipe"] });
  let complaints = "";
  tar.stderr.on("data", (chunk: Buffer) => {
    complaints += chunk.toString();
  });
  const ended = new Promise<number | null>((resolve) => tar.on("close", resolve));
  // Podman takes a short name for one of its own, and ignores a tag that is given separately.
  const answer = await docker.importImage(tar.stdout, { repo: `docker.io/${imageName(image)}`, changes: [...changes] });
  let said = "";
  for await (const chunk of answer) said += String(chunk);
  const code = await ended;
  if (code !== 0 || /"error/.test(said))
    throw new Error(`the test image ${image} cannot be made: ${complaints}${said}`);
}

/**
 * Only one process at a time runs `body`. A directory is the lock; a lock that nobody touches any more is taken over.
 */
export async function exclusively(name: string, body: () => Promise<void>): Promise<void> {
  const lock = join(tmpdir(), `${name}.lock`);
  for (;;) {
    try {
      await mkdir(lock);
      break;
    } catch {
      const age = await stat(lock).then(
        (found) => Date.now() - found.mtimeMs,
        () => 0,
      );
      if (age > 20_000) await rm(lock, { recursive: true, force: true });
      else await wait(100);
    }
  }
  const beat = setInterval(() => {
    const now = new Date();
    utimes(lock, now, now).catch(() => {});
  }, 2000);
  try {
    await body();
  } finally {
    clearInterval(beat);
    await rm(lock, { recursive: true, force: true });
  }
}
