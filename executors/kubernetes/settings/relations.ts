import type { z } from "zod";
import { quantitiesOf, resourceKeys } from "./resources.ts";
import type { Given } from "./shape.ts";

/** Checks that concern several keys. */
export function relations(given: Given, context: z.RefinementCtx): void {
  const complain = (path: string[], message: string): void => {
    context.addIssue({ code: "custom", path, message });
  };
  const { host, cert_file, key_file, ca_file } = given;
  if (given.context !== undefined && host !== undefined) {
    complain(["context"], "names a context of a kubeconfig, and host says that there is none. Remove one of them");
  }
  if (cert_file !== undefined || key_file !== undefined) {
    for (const [key, value] of Object.entries({ host, ca_file, cert_file, key_file })) {
      if (value === undefined) complain([key], "is missing: cert_file, key_file, ca_file and host belong together");
    }
  }
  if (given.bearer_token !== undefined && host === undefined) {
    complain(["bearer_token"], "is only used together with host. Add host, or remove it");
  }
  const amounts = quantitiesOf(given, "");
  for (const { key } of resourceKeys) {
    if (!key.endsWith("_request")) continue;
    const most = amounts.get(key.replace(/_request$/, "_limit"));
    const request = amounts.get(key);
    if (most !== undefined && request !== undefined && request.nano > most.nano) {
      complain([key], `is more than ${key.replace(/_request$/, "_limit")} (${most.text})`);
    }
  }
  if (given.dns_policy === "None" && !Array.isArray(given.dns_config?.nameservers)) {
    complain(["dns_config"], 'needs nameservers where dns_policy is "none"');
  }
  if (given.node_selector["kubernetes.io/os"] === "windows") {
    complain(["node_selector", "kubernetes.io/os"], "names Windows nodes, which are not supported");
  }
  const sources = new Map<string, string>();
  const paths = new Set<string>();
  for (const { kind, name, mountPath, source } of given.volumes) {
    const text = JSON.stringify(source(name));
    if ((sources.get(name) ?? text) !== text) {
      complain(["volumes", kind], `has two volumes of the name "${name}" that are not the same`);
    }
    sources.set(name, text);
    if (paths.has(mountPath)) complain(["volumes", kind], `mounts two volumes on ${mountPath}`);
    paths.add(mountPath);
  }
}
