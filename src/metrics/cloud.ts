import type { CloudMeter } from "../cloud/meter.ts";
import type { Families } from "./families.ts";

/** Those of GitLab Runner. */
const SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** Logins to clouds; the names for roles are GitLab Runner's. There are none where no cloud is asked. */
export function createCloudMeter({ counter, gauge, histogram }: Families): CloudMeter {
  const role = once(() => {
    const before = "gitlab_runner_cache_s3_assume_role_";
    let asking = 0;
    gauge(`${before}requests_in_flight`, "Requests for a role that are under way.", [], (set) => set({}, asking));
    const seconds = histogram(`${before}duration_seconds`, "How long such requests took.", [], SECONDS);
    const hits = counter(`${before}cache_hits_total`, "Roles that were there when a cache needed them.", []);
    const misses = counter(`${before}cache_misses_total`, "Roles that had to be asked for.", []);
    const failures = counter(`${before}failures_total`, "Requests for a role that failed.", []);
    return {
      wanted: (isThere: boolean) => (isThere ? hits : misses).inc(),
      asked() {
        const startMs = performance.now();
        asking++;
        return (well: boolean) => {
          asking--;
          seconds.observe((performance.now() - startMs) / 1000);
          if (!well) failures.inc();
        };
      },
    };
  });
  const logins = once(() => ({
    seconds: histogram("alloy_runner_cloud_login_seconds", "How long logins to clouds took.", ["cloud"], SECONDS),
    failures: counter("alloy_runner_cloud_login_failures_total", "Logins to clouds that failed.", ["cloud"]),
  }));

  return {
    login(cloud) {
      const { seconds, failures } = logins();
      const startMs = performance.now();
      failures.inc({ cloud }, 0);
      return (well) => {
        seconds.observe({ cloud }, (performance.now() - startMs) / 1000);
        if (!well) failures.inc({ cloud });
      };
    },
    role: (isThere) => role().wanted(isThere),
    roleAsked: () => role().asked(),
  };
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | null = null;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}
