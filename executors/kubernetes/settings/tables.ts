import { z } from "zod";
import { optionalText, texts } from "../../images/fields.ts";
import { filled } from "./fields.ts";

/** Small tables below `[runners.kubernetes]` that become parts of a pod as they are: their outputs are named as the API names them. */

const handler = z
  .object({
    exec: z.object({ command: texts }).optional(),
    http_get: z
      .object({
        host: optionalText,
        http_headers: z.array(z.object({ name: z.string(), value: z.string() })).optional(),
        path: optionalText,
        port: z.number().int().min(1).max(65_535),
        scheme: optionalText,
      })
      .transform((given) =>
        filled({
          host: given.host,
          httpHeaders: given.http_headers,
          path: given.path,
          port: given.port,
          scheme: given.scheme,
        }),
      )
      .optional(),
    tcp_socket: z
      .object({ host: optionalText, port: z.number().int().min(1).max(65_535) })
      .transform((given) => filled(given))
      .optional(),
  })
  .refine((given) => Object.values(given).filter((one) => one !== undefined).length === 1, {
    message: "needs exactly one of exec, http_get and tcp_socket",
  })
  .transform((given) => filled({ exec: given.exec, httpGet: given.http_get, tcpSocket: given.tcp_socket }))
  .optional();
export const lifecycle = z
  .object({ post_start: handler, pre_stop: handler })
  .transform((given) => filled({ postStart: given.post_start, preStop: given.pre_stop }))
  .optional();

export const hostAliases = z
  .array(z.object({ ip: z.string().min(1), hostnames: z.array(z.string()).default([]) }))
  .default([]);
export const dnsConfig = z
  .object({
    nameservers: z.array(z.string()).optional(),
    searches: z.array(z.string()).optional(),
    options: z
      .array(z.object({ name: z.string(), value: optionalText }).transform((given) => filled(given)))
      .optional(),
  })
  .transform((given) => filled(given))
  .optional();

/** A change to the finished pod's `spec`. */
export const podSpec = z
  .array(
    z.object({
      name: optionalText,
      patch: optionalText,
      patch_path: optionalText,
      patch_type: z.enum(["strategic", "merge", "json"]).default("strategic"),
    }),
  )
  .superRefine((given, context) => {
    for (const [index, each] of given.entries()) {
      if ((each.patch === undefined) === (each.patch_path === undefined)) {
        context.addIssue({ code: "custom", path: [index], message: "needs one of patch and patch_path" });
      }
    }
  })
  .default([]);
