/** Why git gave up, as far as its last lines tell. */
export type GitTrouble = "access" | "network" | "certificate" | "disk" | "other";

/** About files here, whatever words their names or the reason hold: `unable to unlink 'proxy/tls.go': Permission denied`. */
const ABOUT_FILES =
  /unable to (?:unlink|create|write|open|append|read|stat|rename)|could not (?:open|remove|create|write)|failed to (?:remove|unlink|open|delete)|cannot (?:create|remove|open|lock)|object file|index file|bad object/i;
const DISK = /no space left on device|disk quota exceeded/i;
const ACCESS =
  /authentication failed|permission denied[ ,]*(?:\(|please)|permission to \S+ denied|access denied|could not read (?:username|password)|terminal prompts disabled|invalid (?:username|credentials)|repository not found|returned error: 40[134]|repository '[^']*' (?:not found|does not exist)/i;
const CERTIFICATE = /certificate|\bCAfile\b|self[- ]signed|SSL: no alternative/i;
const NETWORK =
  /could(?: not|n't) (?:resolve|connect)|name or service not known|temporary failure in name resolution|failed to connect|connection (?:timed out|refused|reset|closed|was reset|died)|operation (?:timed out|too slow)|network is unreachable|no route to host|early eof|unexpected disconnect|rpc failed|hung up unexpectedly|returned error: (?:5\d\d|408|429)|empty reply from server|(?:recv|send) failure|transfer closed|http\/2 stream|gnutls_handshake|tls (?:connection|handshake)|ssl[_ ](?:error|connect|read|handshake)|proxy (?:connect|tunnel)|tunnel(?:l?ing)? failed/i;

/** Sort what git said. A server that refuses also hangs up, so the refusal counts. */
export function gitTroubleOf(output: string): GitTrouble {
  if (DISK.test(output)) return "disk";
  const lines = output.split("\n").filter((line) => !ABOUT_FILES.test(line));
  const some = (pattern: RegExp): boolean => lines.some((line) => pattern.test(line));
  if (some(ACCESS)) return "access";
  if (some(CERTIFICATE)) return "certificate";
  return some(NETWORK) ? "network" : "other";
}

/** What a person can do about it, as the end of a sentence; empty where only git's own lines help. */
export function adviceOn(trouble: GitTrouble): string {
  switch (trouble) {
    case "access":
      return "the repository's host refused access; the job's token may have expired, or it does not open this repository";
    case "certificate":
      return "the certificate of the repository's host was not accepted; add its CA to the system's, or set git_ssl_no_verify = true for this runner";
    case "network":
      return "the repository's host could not be reached";
    case "disk":
      return "the disk with the working copies is full";
    case "other":
      return "";
  }
}
