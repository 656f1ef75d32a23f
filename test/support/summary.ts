/** `job: state` for each row of the table at the end of `exec`. */
export function states(stdout: string): Record<string, string> {
  const rows = stdout.slice(stdout.lastIndexOf("\njob ")).split("\n").slice(2);
  return Object.fromEntries(
    rows.flatMap((row) => {
      const [, name, state] =
        /^(\S.*?) {2,}\S+ +(success|failed|skipped|manual|canceled|not started here)\b/.exec(row) ?? [];
      return name === undefined || state === undefined ? [] : [[name, state]];
    }),
  );
}
