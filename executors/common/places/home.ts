import { homedir } from "node:os";

/** The account's home; `/` where there is neither HOME nor an entry for this user id, as in containers with a bare number. */
export function homeDirectory(): string {
  try {
    return homedir() || "/";
  } catch {
    return "/";
  }
}
