/** What a request is about. `storage` is a download from the second origin, `other` what the coordinator does not know. */
export type Endpoint =
  | "register"
  | "verify"
  | "unregister"
  | "unregister_manager"
  | "reset_token"
  | "discovery"
  | "job_request"
  | "update"
  | "trace"
  | "upload"
  | "authorize"
  | "download"
  | "storage"
  | "other";

export interface Route {
  readonly endpoint: Endpoint;
  /** The id in the path, where there is one. */
  readonly id: string | undefined;
}

const routes: readonly (readonly [method: string, path: RegExp, endpoint: Endpoint])[] = [
  ["POST", /^runners$/, "register"],
  ["POST", /^runners\/verify$/, "verify"],
  ["DELETE", /^runners$/, "unregister"],
  ["DELETE", /^runners\/managers$/, "unregister_manager"],
  ["POST", /^runners\/reset_authentication_token$/, "reset_token"],
  ["POST", /^runners\/([^/]+)\/reset_authentication_token$/, "reset_token"],
  ["GET", /^runners\/router\/discovery$/, "discovery"],
  ["POST", /^jobs\/request$/, "job_request"],
  ["PUT", /^jobs\/([^/]+)$/, "update"],
  ["PATCH", /^jobs\/([^/]+)\/trace$/, "trace"],
  ["POST", /^jobs\/([^/]+)\/artifacts$/, "upload"],
  ["POST", /^jobs\/([^/]+)\/artifacts\/authorize$/, "authorize"],
  ["GET", /^jobs\/([^/]+)\/artifacts$/, "download"],
];

/** @param path without a query; `prefix` is what stands before `/api/v4` */
export function routeOf(method: string, path: string, prefix: string): Route {
  const base = `${prefix}/api/v4/`;
  if (path.startsWith(base)) {
    const rest = path.slice(base.length);
    for (const [wanted, pattern, endpoint] of routes) {
      const match = method === wanted ? pattern.exec(rest) : null;
      if (match !== null) return { endpoint, id: match[1] };
    }
  }
  return { endpoint: "other", id: undefined };
}
