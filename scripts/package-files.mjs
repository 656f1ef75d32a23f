// What the packages contain, laid out below a directory, and the texts that tell dpkg and rpm about it.
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { systemdUnit } from "../src/commands/service/systemd-unit.ts";

const SUMMARY = "Runs CI jobs for an AlloyCI or GitLab coordinator";
const ABOUT = `The agent that runs CI jobs. Register it with an AlloyCI or GitLab coordinator: it asks for jobs on as many tokens as
you like, runs each in a shell or container, streams the trace back as it is written, and never loses a result.`;
const HOMEPAGE = "https://github.com/AlloyCI/alloy-runner";

/** The unit of the packages: that of `install`, with the account that the packages make. */
function packagedUnit() {
  return systemdUnit({
    name: "alloy-runner",
    scope: "system",
    program: ["/usr/bin/alloy-runner"],
    configFile: "/etc/alloy-runner/config.toml",
    workingDirectory: "/home/alloy-runner",
    jobsUser: "alloy-runner",
    runnerUser: undefined,
    password: undefined,
    syslog: false,
    drainTimeoutMs: 2 * 3600 * 1000,
  })
    .replace(/^# Own settings .*$/m, '# Own settings belong into a drop-in: "systemctl edit alloy-runner".')
    .replace(/^# Written by.*$/m, "# Written by alloy-runner install for its package, which replaces and removes it.");
}

/**
 * @param root an empty directory
 * @param binary the program for the package's architecture
 * @param kind `deb` or `rpm`: they keep zsh's completions and documents in different places
 */
export function layOut({ root, binary, kind, top, version, date }) {
  const put = (path, content, mode = 0o644) => {
    const file = join(root, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
    chmodSync(file, mode);
  };
  mkdirSync(join(root, "usr/bin"), { recursive: true });
  cpSync(binary, join(root, "usr/bin/alloy-runner"));
  chmodSync(join(root, "usr/bin/alloy-runner"), 0o755);
  put("usr/lib/systemd/system/alloy-runner.service", packagedUnit());
  put("usr/share/bash-completion/completions/alloy-runner", completion("bash", top));
  put("usr/share/fish/vendor_completions.d/alloy-runner.fish", completion("fish", top));
  const zsh = kind === "deb" ? "usr/share/zsh/vendor-completions" : "usr/share/zsh/site-functions";
  put(`${zsh}/_alloy-runner`, completion("zsh", top));
  const docs = "usr/share/doc/alloy-runner";
  put(`${docs}/README.md`, readFileSync(join(top, "README.md")));
  put(`${docs}/config.example.toml`, readFileSync(join(top, "config.example.toml")));
  put(`${docs}/CHANGELOG.md`, readFileSync(join(top, "CHANGELOG.md")));
  for (const name of ["alerts.yml", "grafana.json"])
    put(`${docs}/monitoring/${name}`, readFileSync(join(top, "packaging/monitoring", name)));
  put(`${docs}/copyright`, readFileSync(join(top, "packaging/copyright")));
  if (kind === "deb") {
    const entry = `alloy-runner (${version}-1) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- The alloy-runner authors <noreply@alloy-runner.invalid>  ${debianDate(date)}\n`;
    put(`${docs}/changelog.Debian.gz`, gzipSync(entry, { level: 9 }));
  }
}

/** From the bundle: whatever the package's architecture, it runs here. */
function completion(shell, top) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(top, "dist/alloy-runner.mjs"), "completion", shell],
    { encoding: "utf8", env: { PATH: process.env.PATH } },
  );
  if (status !== 0) throw new Error(`completion ${shell}: ${stderr}`);
  return stdout;
}

function debianDate(date) {
  return date.toUTCString().replace("GMT", "+0000");
}

/** The files of DEBIAN/: name → [text, mode]. */
export function debianControl({ version, arch, installedKb, top }) {
  const common = maintainer(top);
  return {
    control: [
      `Package: alloy-runner
Version: ${version}-1
Architecture: ${arch}
Maintainer: The alloy-runner authors <noreply@alloy-runner.invalid>
Installed-Size: ${installedKb}
Depends: libc6 (>= 2.17), git, passwd, ca-certificates
Recommends: systemd
Section: devel
Priority: optional
Homepage: ${HOMEPAGE}
Description: ${SUMMARY}
${ABOUT.split("\n")
  .map((line) => ` ${line}`)
  .join("\n")}
`,
      0o644,
    ],
    postinst: [
      `${common}
if [ "$1" = configure ]; then
  if [ -z "$2" ]; then after_install first; else after_install upgrade; fi
fi
`,
      0o755,
    ],
    prerm: [`${common}\nif [ "$1" = remove ]; then before_remove; fi\n`, 0o755],
    postrm: [
      `${common}
if [ "$1" = remove ] || [ "$1" = purge ]; then after_remove; fi
if [ "$1" = purge ]; then purge; fi
`,
      0o755,
    ],
  };
}

function maintainer(top) {
  return `#!/bin/sh\nset -e\n${readFileSync(join(top, "packaging/maintainer.sh"), "utf8")}`;
}

/** For `rpmbuild -bb`: `files` are laid out in its build root before. */
export function rpmSpec({ version, payload, date, top }) {
  // A "%" would be a macro.
  const common = readFileSync(join(top, "packaging/maintainer.sh"), "utf8").replaceAll("%", "%%");
  const day = date.toUTCString().replace(/^(\w+), (\d+) (\w+) (\d+).*/, "$1 $3 $2 $4");
  return `%global debug_package %{nil}
# A stripped program is a broken one: its code stands behind the last section.
%global __os_install_post %{nil}
%define _build_id_links none
%define _binary_payload ${payload}
%define _buildhost reproducible
%define use_source_date_epoch_as_buildtime 1
%define clamp_mtime_to_source_date_epoch 1
Name: alloy-runner
Version: ${version}
Release: 1
Summary: ${SUMMARY}
License: MIT
URL: ${HOMEPAGE}
AutoReqProv: no
Requires: git-core, ca-certificates, /usr/sbin/useradd
Recommends: systemd

%description
${ABOUT}

%post
${common}
if [ "$1" -eq 1 ]; then after_install first; else after_install upgrade; fi

%preun
${common}
if [ "$1" -eq 0 ]; then before_remove; fi

%postun
${common}
if [ "$1" -eq 0 ]; then after_remove; fi

%files
%attr(0755, root, root) /usr/bin/alloy-runner
%attr(0644, root, root) /usr/lib/systemd/system/alloy-runner.service
%attr(0644, root, root) /usr/share/bash-completion/completions/alloy-runner
%attr(0644, root, root) /usr/share/fish/vendor_completions.d/alloy-runner.fish
%attr(0644, root, root) /usr/share/zsh/site-functions/_alloy-runner
%doc %attr(0644, root, root) /usr/share/doc/alloy-runner/*
%dir %attr(0755, root, root) /usr/share/doc/alloy-runner

%changelog
* ${day} The alloy-runner authors <noreply@alloy-runner.invalid> - ${version}-1
- See CHANGELOG.md.
`;
}
