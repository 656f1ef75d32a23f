/**
 * What an engine's complaint is about, where its status does not tell: Docker and Podman say it in their words only. They are
 * read here and nowhere else; whoever has to decide looks at the kind.
 */
export type ComplaintKind =
  /** No range of addresses is left for one more network. */
  | "no_addresses"
  /** An interface of another network vanished while Podman looked at all of them. */
  | "interface_vanished"
  /** Podman keeps a container whose network another one shares until that one is gone. */
  | "has_dependents"
  /** The ends of containers vanish from a network a moment after these. */
  | "has_endpoints"
  /** There is no such program in the image, or it cannot be run. */
  | "no_program"
  | "other";

const WORDS: readonly (readonly [kind: ComplaintKind, words: RegExp])[] = [
  ["interface_vanished", /no such network interface/i],
  ["has_dependents", /dependent containers/i],
  ["has_endpoints", /active endpoints/i],
  ["no_program", /exec[\s\S]*(?:executable file not found|no such file or directory|permission denied)/i],
  ["no_program", /(?:executable file not found|no such file or directory|permission denied)[\s\S]*exec/i],
  ["no_addresses", /subnet|address pool|available network/i],
];

export function complaintKind(text: string): ComplaintKind {
  return WORDS.find(([, words]) => words.test(text))?.[0] ?? "other";
}
