import type { Config } from "../../config/config.ts";
import type { Log } from "../../log.ts";

export interface LiveKeyOptions {
  readonly config: () => Pick<Config, "liveKeyFile" | "runners">;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Log;
}

/** With what the secrets of running jobs are kept, looked for when there is need of it. */
export interface LiveKeyHolder {
  /** `null`: there is none, which has been said once. */
  get(): Promise<Buffer | null>;
  /** A configuration is in force: are its durable entries so? */
  look(): void;
  /** Whether jobs of durable entries are; `undefined`: there is no such entry. */
  readonly durable: boolean | undefined;
}

export function holdLiveKey({ config, env, log }: LiveKeyOptions): LiveKeyHolder {
  let last: { readonly file: string | undefined; readonly key: Promise<Buffer | null> } | undefined;
  let found = false;

  async function find(file: string | undefined): Promise<Buffer | null> {
    // Few runners have use for it.
    const { findKey, keyPlaces } = await import("../../journal/live/key.ts");
    const key = await findKey(keyPlaces(env, file));
    found = "bytes" in key;
    if ("bytes" in key) return key.bytes;
    const sentence = "jobs are not durable: there is no key to keep their secrets with";
    if (config().runners.some(({ durableAsked }) => durableAsked)) log.warn(sentence, { problem: key.problem });
    else log.info(sentence, { problem: key.problem });
    return null;
  }

  const anyDurable = (): boolean => config().runners.some(({ durable }) => durable);
  const get = (): Promise<Buffer | null> => {
    const { liveKeyFile: file } = config();
    if (last === undefined || last.file !== file) last = { file, key: find(file) };
    return last.key;
  };
  return {
    get,
    look() {
      if (anyDurable()) void get();
    },
    get durable() {
      return anyDurable() ? found : undefined;
    },
  };
}
