export type Cloud = "aws" | "google" | "azure";

/** How something that was begun has ended. */
export type Ended = (well: boolean) => void;

/** What logins to clouds, and roles that are borrowed there, report about themselves. */
export interface CloudMeter {
  /** A login is asked for, as there is none that is good for a while yet. */
  login(cloud: Cloud): Ended;
  /** The role of an S3 cache is wanted, and is there, or has to be asked for. */
  role(isThere: boolean): void;
  roleAsked(): Ended;
}

/** Does the work, and tells how it ended. */
export async function metered<T>(ended: Ended, work: Promise<T>): Promise<T> {
  try {
    const done = await work;
    ended(true);
    return done;
  } catch (error) {
    ended(false);
    throw error;
  }
}
