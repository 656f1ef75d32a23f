/** The credentials that a call is made with. */
export interface Login {
  readonly headers: Readonly<Record<string, string | string[]>>;
  /** PEM; both are set, or neither. */
  readonly cert?: string;
  readonly key?: string;
}

/** Where logins come from. */
export interface LoginSource {
  /** @param refused the login that the server has just refused, which is not good enough any more */
  get(refused: Login | null, signal: AbortSignal): Promise<Login>;
}
