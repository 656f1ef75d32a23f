/**
 * `git add-system-certificates FILE`, known to the runner's own calls only: appends what git trusts in that place anyway, as a
 * file that is named for a host takes the place of that. The first of: what the account or the system names for git, for
 * OpenSSL, and where systems keep it (Debian, Fedora, SUSE, Alpine and macOS, Git for Windows).
 */
const SCRIPT = `f() {
for file in "$(git config --path --get http.sslCAInfo)" "$SSL_CERT_FILE" /etc/ssl/certs/ca-certificates.crt \\
  /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem \\
  /mingw64/etc/ssl/certs/ca-bundle.crt /mingw64/ssl/certs/ca-bundle.crt; do
if [ -f "$file" ] && [ -s "$file" ]; then
{ echo; cat "$file"; } >>"$1"
return
fi
done
}; f`;

export const CERTIFICATES_ALIAS = { name: "add-system-certificates", value: `!${SCRIPT}` } as const;
