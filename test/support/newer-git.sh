#!/usr/bin/env bash
# Builds git from the source that Debian has for its next release into a cache outside the tree, where it is missing, and prints the
# folder of its program: the git of Debian 12 knows neither --revision nor proactiveAuth. It takes two minutes of one core.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/fetched.sh"

fetch() {
  local work="$parts/work" keys=/usr/share/keyrings/debian-archive-keyring.gpg
  local include="$work/headers/usr/include" newest
  command -v gcc make >&2
  mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/source" "$work/headers"
  echo "deb-src [signed-by=$keys] http://deb.debian.org/debian sid main" >"$work/sources.list"
  newest=(apt-get -qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::Lists=$work/lists"
    -o "Dir::Cache=$work" -o APT::Sandbox::User=)
  "${newest[@]}" update >&2
  (cd "$work/source" && "${newest[@]}" source --download-only git >&2 && tar xf git_*.orig.tar.* --strip-components=1)
  # Only headers: the libraries themselves are those of this machine's own git.
  (
    cd "$work/headers"
    apt-get download -qq -o APT::Sandbox::User= libcurl4-openssl-dev zlib1g-dev >&2
    for package in *.deb; do dpkg -x "$package" .; done
  )
  make -s -C "$work/source" -j"$(nproc)" prefix="$parts/git" NO_GETTEXT=1 NO_TCLTK=1 NO_PERL=1 NO_PYTHON=1 NO_RUST=1 NO_EXPAT=1 \
    NO_OPENSSL=1 NO_INSTALL_HARDLINKS=1 CFLAGS="-O1 -I$include -I$include/$(gcc -print-multiarch)" \
    CURL_LDFLAGS="-l:libcurl.so.4" EXTLIBS="-l:libz.so.1" install >&2
  rm -rf "$work"
}

# Whatever is newest when it is first built.
fetched newer-git debian "$@"
echo "$parts/git/bin"
